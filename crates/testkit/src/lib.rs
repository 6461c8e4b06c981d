//! What tests need and nothing else uses: sample values, private brokers, a network that breaks, and processes under
//! control or in view.

mod browsers;
pub mod builders;
mod cluster;
mod process;
mod proxy;
mod shared;

pub use broker::{PrivateNode, PrivateNode as PrivateBroker, PrivateNodeError, PrivateNodeOptions};
pub use browsers::BrowserProcesses;
pub use cluster::Cluster;
pub use process::{AugurProcess, ProcessError};
pub use proxy::TcpProxy;
pub use shared::{Vhost, shared_broker, shared_vhost};
