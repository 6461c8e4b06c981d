//! Where the broker is, with a password that nobody sees.

use std::{fmt, net::Ipv6Addr, str::FromStr, time::Duration};

use lapin::uri::{AMQPScheme, AMQPUri};

use crate::BrokerError;

/// Heartbeat of every connection, in seconds: a dead peer is noticed after two of them.
const HEARTBEAT_S: u16 = 10;
/// Largest frame, in bytes: lapin keeps two buffers of 32 frames for every connection.
const FRAME_BYTES_MAX: u32 = 32 * 1024;
/// How long one attempt to connect to one address may take, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 10_000;
/// Addresses that a URL may name; a cluster of more nodes needs no more of them to be found.
const ADDRESSES_MAX: usize = 16;

/// An AMQP URL; `Display` and `Debug` hide the password.
///
/// It may name several nodes of one cluster, `amqp://user:password@host1:5672,host2:5673/vhost?heartbeat=5`: user,
/// virtual host and options hold for all of them.
#[derive(Clone, PartialEq, Eq)]
pub struct AmqpUrl {
    /// All of the URL; its authority is the first address.
    uri: AMQPUri,
    /// The further addresses, in their order.
    others: Vec<Address>,
}

/// Host, without the brackets of an IPv6 address, and port.
type Address = (String, u16);

impl AmqpUrl {
    /// What lapin needs to connect to one of the addresses, counted from 0.
    pub(crate) fn uri(&self, address: usize) -> AMQPUri {
        let mut uri = self.uri.clone();
        if let Some((host, port)) = address.checked_sub(1).and_then(|other| self.others.get(other)) {
            uri.authority.host.clone_from(host);
            uri.authority.port = *port;
        }
        uri
    }

    /// How long one attempt to connect may take.
    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.uri.query.connection_timeout.unwrap_or(CONNECT_TIMEOUT_MS))
    }

    /// The URL with its password, for handing it to a child process through its environment.
    pub fn reveal(&self) -> String {
        // User and password are percent-encoded there, so the first `@` ends them and no host holds a `/`.
        let text = self.uri.to_string();
        let Some((login, rest)) = text.split_once('@') else { return text };
        let tail = rest.split_once('/').map_or("", |(_, tail)| tail);
        format!("{login}@{}/{tail}", self.shown_addresses())
    }

    /// Host and port of the first address.
    pub fn authority(&self) -> (&str, u16) {
        (&self.uri.authority.host, self.uri.authority.port)
    }

    /// Host and port of every address, in the URL's order; never empty.
    pub fn authorities(&self) -> Vec<(&str, u16)> {
        let others = self.others.iter().map(|(host, port)| (host.as_str(), *port));
        std::iter::once(self.authority()).chain(others).collect()
    }

    /// The same user, virtual host and options at one other address, e.g. that of a proxy.
    #[must_use]
    pub fn at(&self, host: &str, port: u16) -> Self {
        let mut uri = self.uri.clone();
        host.clone_into(&mut uri.authority.host);
        uri.authority.port = port;
        Self { uri, others: Vec::new() }
    }

    /// The virtual host, decoded.
    pub fn virtual_host(&self) -> &str {
        &self.uri.vhost
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }

    fn shown_addresses(&self) -> String {
        let shown = self
            .authorities()
            .into_iter()
            .map(|(host, port)| if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") });
        shown.collect::<Vec<_>>().join(",")
    }
}

impl FromStr for AmqpUrl {
    type Err = BrokerError;

    fn from_str(text: &str) -> Result<Self, BrokerError> {
        parse(text).map_err(|reason| BrokerError::Url { reason, redacted: redact(text) })
    }
}

/// Parses the URL once for each address; the error quotes no password.
fn parse(text: &str) -> Result<AmqpUrl, String> {
    let (before, hosts, after) = split(text);
    let mut uris = Vec::new();
    for host in hosts.split(',') {
        if uris.len() == ADDRESSES_MAX {
            return Err(format!("more than {ADDRESSES_MAX} addresses"));
        }
        if host.is_empty() && hosts != host {
            return Err("an address is empty".to_owned());
        }
        uris.push(parse_one(before, host, after)?);
    }
    let mut uris = uris.into_iter();
    let mut uri = uris.next().ok_or("no address")?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
    uri.query.connection_timeout.get_or_insert(CONNECT_TIMEOUT_MS);
    uri.query.frame_max.get_or_insert(FRAME_BYTES_MAX);
    let others = uris.map(|uri| (uri.authority.host, uri.authority.port)).collect();
    Ok(AmqpUrl { uri, others })
}

fn parse_one(before: &str, host: &str, after: &str) -> Result<AMQPUri, String> {
    let text = format!("{before}{host}{after}");
    // The parser's reason may quote the whole text.
    let mut uri = AMQPUri::from_str(&text).map_err(|reason| reason.replace(&text, &redact(&text)))?;
    if let Some((address, _)) = host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        // The parser knows no such address and takes `localhost` instead.
        let address: Ipv6Addr = address.parse().map_err(|_| format!("`{address}` is no IPv6 address"))?;
        uri.authority.host = address.to_string();
    } else if !uri.authority.host.chars().all(|c| c.is_alphanumeric() || ['.', '-', '_'].contains(&c)) {
        return Err("a host name with characters that none has".to_owned());
    }
    Ok(uri)
}

/// What stands before the hosts (scheme and user), the hosts, and what stands behind them.
fn split(text: &str) -> (&str, &str, &str) {
    let authority = text.find("://").map_or(0, |at| at + "://".len());
    let end = text[authority..].find(['/', '?', '#']).map_or(text.len(), |at| authority + at);
    let hosts = text[authority..end].rfind('@').map_or(authority, |at| authority + at + 1);
    (&text[..hosts], &text[hosts..end], &text[end..])
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
        let user = &self.uri.authority.userinfo.username;
        let vhost = if self.uri.vhost == "/" { "%2f" } else { &self.uri.vhost };
        write!(f, "{scheme}://{user}:***@{}/{vhost}", self.shown_addresses())
    }
}

impl fmt::Debug for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AmqpUrl({self})")
    }
}

#[cfg(test)]
mod tests;
