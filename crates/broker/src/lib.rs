//! RabbitMQ, as Augur uses it: connect, declare, publish with confirms, consume, settle, read streams.
//!
//! This crate alone knows lapin. Publishing and consuming use separate connections, because the broker stops
//! reading from a publishing connection while it raises an alarm, and acks must still flow then. lapin's own
//! recovery stays off (it would restart a stream consumer at its first offset): [`Publisher`] and
//! [`Subscription`] each own a reconnect loop.

mod confirms;
mod connect;
mod consume;
mod declare;
mod delivery;
mod error;
mod private_node;
mod publish;
mod stream;
mod url;
mod version;

pub use connect::{Patience, connect_once};
pub use consume::{Start, Subscription};
pub use declare::{apply, observe};
pub use delivery::{Delivery, Settlement};
pub use error::BrokerError;
pub use private_node::{PrivateNode, PrivateNodeError, PrivateNodeOptions};
pub use publish::{Outgoing, Publisher, WINDOW_MESSAGES_MAX};
pub use stream::{TAIL_SILENCE_MS_MAX, last_offset, resume};
pub use url::AmqpUrl;
pub use version::server_version;
