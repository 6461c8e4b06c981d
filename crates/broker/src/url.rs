//! Where the broker is, with a password that nobody sees.

use std::{fmt, str::FromStr, time::Duration};

use lapin::uri::AMQPUri;

use crate::BrokerError;

/// Heartbeat of every connection, in seconds: a dead peer is noticed after two of them.
const HEARTBEAT_S: u16 = 10;
/// How long one attempt to connect may take, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 10_000;

/// An AMQP URL; `Display` and `Debug` hide the password.
#[derive(Clone, PartialEq, Eq)]
pub struct AmqpUrl(AMQPUri);

impl AmqpUrl {
    /// The parsed URL with our heartbeat and timeout.
    pub(crate) fn uri(&self) -> AMQPUri {
        self.0.clone()
    }

    /// How long one attempt to connect may take.
    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.0.query.connection_timeout.unwrap_or(CONNECT_TIMEOUT_MS))
    }

    /// The URL with its password, for handing it to a child process through its environment.
    pub fn reveal(&self) -> String {
        self.0.to_string()
    }

    /// Host and port.
    pub fn authority(&self) -> (&str, u16) {
        (&self.0.authority.host, self.0.authority.port)
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.0.scheme == lapin::uri::AMQPScheme::AMQPS
    }
}

impl FromStr for AmqpUrl {
    type Err = BrokerError;

    fn from_str(text: &str) -> Result<Self, BrokerError> {
        let mut uri = AMQPUri::from_str(text).map_err(|reason| {
            let redacted = redact(text);
            // The parser's reason may quote the whole text.
            BrokerError::Url { reason: reason.replace(text, &redacted), redacted }
        })?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
        uri.query.connection_timeout.get_or_insert(CONNECT_TIMEOUT_MS);
        Ok(Self(uri))
    }
}

/// Replaces whatever stands between the user's name and the last `@`.
fn redact(text: &str) -> String {
    let Some((head, tail)) = text.rsplit_once('@') else { return text.to_owned() };
    let (scheme, userinfo) = head.split_once("://").map_or(("", head), |(scheme, userinfo)| (scheme, userinfo));
    let user = userinfo.split(':').next().unwrap_or_default();
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}{user}:***@{tail}")
}

impl fmt::Display for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls() { "amqps" } else { "amqp" };
        let authority = &self.0.authority;
        let vhost = if self.0.vhost == "/" { "%2f" } else { &self.0.vhost };
        write!(f, "{scheme}://{}:***@{}:{}/{vhost}", authority.userinfo.username, authority.host, authority.port)
    }
}

impl fmt::Debug for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AmqpUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_shows_nowhere() {
        let url: AmqpUrl = "amqp://user:s3cret@127.0.0.1:5672/%2f".parse().expect("a good URL");
        let bad = "amqp://user:s3cret@host:99999/".parse::<AmqpUrl>().expect_err("no such port");
        let worse = "user:s3c@ret@host".parse::<AmqpUrl>().expect_err("no scheme");
        for text in [url.to_string(), format!("{url:?}"), bad.to_string(), worse.to_string(), format!("{bad:?}")] {
            assert!(!text.contains("s3c"), "{text}");
        }
        assert_eq!(url.to_string(), "amqp://user:***@127.0.0.1:5672/%2f");
        assert!(url.reveal().contains("s3cret"));
    }
}
