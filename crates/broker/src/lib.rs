//! RabbitMQ, as Augur uses it: connect, declare, publish with confirms, consume, settle, read streams.
//!
//! This crate alone knows lapin. Publishing and consuming use separate connections, because the broker stops
//! reading from a publishing connection while it raises an alarm, and acks must still flow then. lapin's own
//! recovery stays off (it would restart a stream consumer at its first offset): [`Publisher`] and [`Link`], which
//! [`Subscription`]s share, own the reconnecting.

mod confirms;
mod connect;
mod consume;
mod declare;
mod delivery;
mod election;
mod error;
mod flow;
mod headers;
mod link;
mod outgoing;
mod overdue;
mod private_node;
mod publish;
mod queue_reader;
mod stream;
#[cfg(test)]
mod testing;
mod url;
mod version;

pub use connect::{Patience, connect_once};
pub use consume::{Start, Subscription};
pub use declare::{apply, observe};
pub use delivery::{Delivery, Settlement, fingerprint};
pub use election::SoleConsumer;
pub use error::BrokerError;
pub use headers::Death;
pub use link::Link;
pub use outgoing::Outgoing;
pub use private_node::{Peer, PrivateNode, PrivateNodeError, PrivateNodeOptions};
pub use publish::{Publisher, WINDOW_MESSAGES_MAX};
pub use queue_reader::QueueReader;
pub use stream::{Continuity, StreamEnd, TAIL_SILENCE_MS_MAX, continuity, resume, stream_end};
pub use url::AmqpUrl;
pub use version::server_version;
