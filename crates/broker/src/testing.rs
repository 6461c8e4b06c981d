//! What this crate's unit tests share.

use std::sync::OnceLock;

use crate::{AmqpUrl, PrivateNode};

/// The URL of one node for all of them; it ends with the process.
pub(crate) fn node_url() -> AmqpUrl {
    static NODE: OnceLock<PrivateNode> = OnceLock::new();
    NODE.get_or_init(|| PrivateNode::start().expect("a node")).url().parse().expect("a URL")
}
