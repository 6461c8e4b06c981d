//! Opening connections, and waiting for a broker that is not there yet.

use std::{
    io,
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use lapin::{Channel, Connection, ConnectionProperties, ConnectionState, ErrorKind, uri::AMQPUri};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{AmqpUrl, BrokerError, flow::REPLY_SUCCESS};

/// Shortest wait before another attempt, in milliseconds.
const RECONNECT_WAIT_MS_MIN: u64 = 100;
/// Longest wait before another attempt, in milliseconds.
const RECONNECT_WAIT_MS_MAX: u64 = 5_000;
/// Wait before another attempt after a broker was reached but refused what we asked of it, in milliseconds.
pub(crate) const REFUSED_WAIT_MS: u64 = 1_000;

/// After this long without an answer to a command it is looked whether one can still come.
const LOST_CHECK: Duration = Duration::from_secs(1);
/// How long the broker may take to close a connection in good order.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// How long to go on trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Until told to stop.
    Endless,
    /// This long.
    For(Duration),
}

/// Opens one connection, trying each address of the URL once.
///
/// A process begins at a random address, and every further call at the next one: so a fleet spreads over the nodes
/// of a cluster, and whoever lost a node goes to another.
///
/// # Errors
///
/// [`BrokerError::Connect`] if nothing answers at any address, or what answers refuses us.
pub async fn connect_once(url: &AmqpUrl, name: &str) -> Result<Connection, BrokerError> {
    static NEXT: LazyLock<AtomicUsize> = LazyLock::new(|| AtomicUsize::new(fastrand::usize(..usize::from(u16::MAX))));
    let started = Instant::now();
    let addresses = url.authorities().len();
    let first = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut tried = 0;
    loop {
        let uri = url.uri(first.wrapping_add(tried) % addresses);
        let (host, port) = (uri.authority.host.clone(), uri.authority.port);
        let error = match connect_to(uri, url.connect_timeout(), name).await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        tried += 1;
        if tried == addresses {
            let tried_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            return Err(BrokerError::Connect { url: url.clone(), tried_ms, source: Box::new(error) });
        }
        debug!(connection = name, host, port, %error, "node is not reachable; trying the next address");
    }
}

async fn connect_to(uri: AMQPUri, timeout: Duration, name: &str) -> lapin::Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    // lapin's own limit ends with the TCP connection: a server that then stays silent would hold us for ever.
    let connected = tokio::time::timeout(timeout, Connection::connect_uri(uri, properties)).await;
    connected.unwrap_or_else(|elapsed| Err(io::Error::from(elapsed).into()))
}

/// Opens one connection, trying again with exponential waits and jitter.
pub(crate) async fn connect(
    url: &AmqpUrl,
    name: &str,
    patience: Patience,
    stop: &CancellationToken,
) -> Result<Connection, BrokerError> {
    let started = Instant::now();
    let mut wait_ms = RECONNECT_WAIT_MS_MIN;
    loop {
        let attempt = tokio::select! {
            () = stop.cancelled() => return Err(BrokerError::Closed),
            attempt = connect_once(url, name) => attempt,
        };
        let error = match attempt {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        let tried = started.elapsed();
        if let Patience::For(limit) = patience
            && tried >= limit
        {
            let BrokerError::Connect { url, source, .. } = error else { return Err(error) };
            let tried_ms = u64::try_from(tried.as_millis()).unwrap_or(u64::MAX);
            return Err(BrokerError::Connect { url, tried_ms, source });
        }
        warn!(%url, connection = name, error = %std::error::Error::source(&error).map_or_else(String::new, ToString::to_string), wait_ms, "broker is not reachable");
        // Jitter keeps a fleet from knocking at the same moment.
        let jittered = Duration::from_millis(wait_ms / 2 + fastrand::u64(0..=wait_ms / 2));
        tokio::select! {
            () = stop.cancelled() => return Err(BrokerError::Closed),
            () = tokio::time::sleep(jittered) => {}
        }
        wait_ms = (wait_ms * 2).min(RECONNECT_WAIT_MS_MAX);
    }
}

/// A new channel of this connection.
pub(crate) async fn open_channel(connection: &Connection) -> lapin::Result<Channel> {
    unless_gone(connection, connection.create_channel()).await
}

/// Closes a connection; when this returns, the broker has done all that it was told on any channel of it.
///
/// # Errors
///
/// If the connection is gone, or the broker does not close it in time.
pub(crate) async fn close(connection: &Connection) -> lapin::Result<()> {
    let closing = unless_gone(connection, connection.close(REPLY_SUCCESS, "done".into()));
    let closed = tokio::time::timeout(CLOSE_MAX, closing).await;
    closed.unwrap_or_else(|elapsed| Err(io::Error::from(elapsed).into()))
}

/// The answer to a command on a connection, or an error once the connection is gone.
async fn unless_gone<T>(connection: &Connection, command: impl Future<Output = lapin::Result<T>>) -> lapin::Result<T> {
    let status = connection.status();
    let answer = unless_lost(command, || status.closed() || status.errored()).await;
    answer.unwrap_or_else(|| Err(ErrorKind::InvalidConnectionState(ConnectionState::Closed).into()))
}

/// The answer to a command, or `None` once `is_lost` says that none can come.
///
/// lapin 4.12 never answers what reaches it between the loss of a connection and the moment when its status says so: the
/// task that would carry the command out has been told to end (`InternalRPC::run`). That goes for opening a channel,
/// closing a connection and settling a delivery.
pub(crate) async fn unless_lost<T>(command: impl Future<Output = T>, is_lost: impl Fn() -> bool) -> Option<T> {
    tokio::pin!(command);
    loop {
        if let Ok(answer) = tokio::time::timeout(LOST_CHECK, &mut command).await {
            return Some(answer);
        }
        if is_lost() {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use lapin::ErrorKind;

    use super::{close, connect_once, unless_gone};
    use crate::testing::node_url;

    #[tokio::test]
    async fn a_forgotten_command_ends_with_its_connection() {
        let url = node_url();
        let connection = connect_once(&url, "test").await.expect("a connection");
        let forgotten = unless_gone(&connection, pending::<lapin::Result<()>>());
        let (answer, closed) = tokio::join!(forgotten, close(&connection));
        closed.expect("an end in good order");
        assert!(matches!(answer.expect_err("no answer").kind(), ErrorKind::InvalidConnectionState(_)));
    }
}
