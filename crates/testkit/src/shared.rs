//! One private node for all tests of a process, and a virtual host of its own for each of them.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering},
};

use crate::{PrivateNode, PrivateNodeError};

/// The node that all tests of this process share; started at the first call, ended with the process.
///
/// Tests that stop, kill or pause their broker take a [`PrivateNode`] of their own.
///
/// # Panics
///
/// If the node does not start: no test that asks for it can go on.
pub fn shared_broker() -> &'static PrivateNode {
    static NODE: OnceLock<PrivateNode> = OnceLock::new();
    NODE.get_or_init(|| match PrivateNode::start() {
        Ok(node) => node,
        Err(error) => panic!("there is no broker for the tests: {error}"),
    })
}

/// A new virtual host on [`shared_broker`], in which `guest` may do everything.
///
/// # Errors
///
/// [`PrivateNodeError::Tool`] with what the node says.
pub fn shared_vhost() -> Result<Vhost, PrivateNodeError> {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let name = format!("test-{}", MADE.fetch_add(1, Ordering::Relaxed));
    let node = shared_broker();
    node.evaluate(&format!(
        "ok = rabbit_vhost:add(<<\"{name}\">>, <<\"testkit\">>), rabbit_auth_backend_internal:set_permissions(\
         <<\"guest\">>, <<\"{name}\">>, <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"testkit\">>)."
    ))?;
    Ok(Vhost { node, name })
}

/// A virtual host; dropping it deletes it with all its queues and closes its connections.
#[derive(Debug)]
pub struct Vhost {
    node: &'static PrivateNode,
    name: String,
}

impl Vhost {
    /// Its URL, for the user `guest`.
    pub fn url(&self) -> String {
        self.node.url_of(&self.name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The node that it is on.
    pub fn node(&self) -> &'static PrivateNode {
        self.node
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        // Answered at once: deleting many quorum queues takes seconds that no test has to wait for.
        let expressions =
            format!("spawn(fun() -> rabbit_vhost:delete(<<\"{}\">>, <<\"testkit\">>) end), ok.", self.name);
        if let Err(error) = self.node.evaluate(&expressions) {
            eprintln!("failed to delete virtual host {}: {error}", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_hosts_are_apart_and_go_with_their_guard() {
        let (first, second) = (shared_vhost().expect("one"), shared_vhost().expect("another"));
        assert_ne!(first.url(), second.url());
        let exists = |name: &str| {
            first.node().evaluate(&format!("rabbit_vhost:exists(<<\"{name}\">>).")).expect("an answer") == "true"
        };
        assert!(exists(first.name()) && exists(second.name()));
        let permissions = first.node().ctl(&["list_permissions", "-p", second.name()]).expect("permissions");
        assert!(permissions.contains("guest"), "{permissions}");
    }
}
