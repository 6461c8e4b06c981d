//! What can go wrong between us and the broker.

use lapin::{
    ErrorKind,
    protocol::{AMQPErrorKind, AMQPHardError},
};
use thiserror::Error;

use crate::{
    AmqpUrl,
    declare::{HOME_NODE_DOWN, soft_error},
};

/// What a node says of a queue or stream that it knows and cannot serve now.
const NOT_YET: [&str; 2] = [HOME_NODE_DOWN, "does not have a replica on the local node"];

/// Why the broker did not do what was asked.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// The text is no AMQP URL.
    #[error("`{redacted}` is no AMQP URL: {reason}")]
    Url {
        /// The text without its password.
        redacted: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing answered, or it refused us.
    #[error("failed to connect to the broker at {url} (tried for {tried_ms} ms)")]
    Connect {
        /// Where.
        url: AmqpUrl,
        /// How long we tried.
        tried_ms: u64,
        /// What the last attempt said.
        source: Box<lapin::Error>,
    },
    /// The server's version could not be read from its handshake.
    #[error("failed to read the server version of {url}: {reason}")]
    Version {
        /// Where.
        url: AmqpUrl,
        /// What went wrong.
        reason: String,
    },
    /// The broker refused a declaration.
    #[error("the broker refused to declare {what}")]
    Declare {
        /// The object, e.g. ``queue `results` ``.
        what: String,
        /// What it said.
        source: Box<lapin::Error>,
    },
    /// A command on an open connection failed.
    #[error("failed to {what}")]
    Command {
        /// What was attempted.
        what: String,
        /// What the broker or the connection said.
        source: Box<lapin::Error>,
    },
    /// The broker has no such queue.
    #[error("the broker has no queue `{queue}`; run `augur topology apply`")]
    NoQueue {
        /// Its name.
        queue: String,
    },
    /// No queue takes this message: it was not stored.
    #[error("message to `{exchange}` with key `{routing_key}` reached no queue: {reply}; run `augur topology apply`")]
    Unroutable {
        /// Where it was published.
        exchange: String,
        /// With which key.
        routing_key: String,
        /// What the broker said.
        reply: String,
    },
    /// The queue is full and rejects: the message was not stored.
    #[error("the queue behind `{exchange}` with key `{routing_key}` refused a message; it may be full")]
    Refused {
        /// Where it was published.
        exchange: String,
        /// With which key.
        routing_key: String,
    },
    /// The connection was lost and did not come back in time; whether the message was stored is not known.
    #[error("no confirm from the broker for a message to `{exchange}` after {waited_ms} ms")]
    Unconfirmed {
        /// Where it was published.
        exchange: String,
        /// How long we waited.
        waited_ms: u64,
    },
    /// The publisher or subscription has ended.
    #[error("the connection to the broker has been closed by this process")]
    Closed,
    /// The delivery's channel is gone; the broker will deliver it again.
    #[error("delivery {delivery_tag} can no longer be settled; the broker will deliver it again")]
    Settle {
        /// The tag.
        delivery_tag: u64,
        /// What the channel said, if anything.
        source: Option<Box<lapin::Error>>,
    },
}

impl BrokerError {
    /// Whether the same call may succeed later without anyone's help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Command { .. }
            | Self::Refused { .. }
            | Self::Unconfirmed { .. }
            | Self::Version { .. }
            | Self::Settle { .. } => true,
            Self::Url { .. } | Self::Declare { .. } | Self::NoQueue { .. } | Self::Unroutable { .. } | Self::Closed => {
                false
            }
        }
    }

    /// Whether the connection broke while a command was on its way: on another one it may be done.
    pub(crate) fn is_lost_connection(&self) -> bool {
        let Self::Command { source, .. } = self else { return false };
        match source.kind() {
            ErrorKind::IOError(_)
            | ErrorKind::InvalidConnectionState(_)
            | ErrorKind::InvalidChannelState(..)
            | ErrorKind::MissingHeartbeatError => true,
            // Closed by an operator or by the end of a node; the other codes say that we did something wrong.
            ErrorKind::ProtocolError(error) => {
                matches!(
                    error.kind(),
                    AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED | AMQPHardError::INTERNALERROR)
                )
            }
            _ => false,
        }
    }

    /// Whether the node we are connected to cannot serve a queue or stream yet: it has just started, and its replica has
    /// not. That passes within seconds.
    pub(crate) fn is_not_yet(&self) -> bool {
        let Self::Command { source, .. } = self else { return false };
        soft_error(source).is_some_and(|(_, detail)| NOT_YET.iter().any(|text| detail.contains(text)))
    }

    pub(crate) fn command(what: impl Into<String>) -> impl FnOnce(lapin::Error) -> Self {
        let what = what.into();
        move |source| Self::Command { what, source: Box::new(source) }
    }
}
