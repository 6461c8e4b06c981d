//! What tests need and nothing else uses: sample values, a private broker, and processes under control.

pub mod builders;
mod process;
mod shared;

pub use broker::{PrivateNode, PrivateNode as PrivateBroker, PrivateNodeError, PrivateNodeOptions};
pub use process::{AugurProcess, ProcessError};
pub use shared::{Vhost, shared_broker, shared_vhost};
