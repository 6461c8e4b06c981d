//! Opening connections, and waiting for a broker that is not there yet.

use std::{
    io,
    time::{Duration, Instant},
};

use lapin::{Connection, ConnectionProperties};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{AmqpUrl, BrokerError};

/// Shortest wait before another attempt, in milliseconds.
const RECONNECT_WAIT_MS_MIN: u64 = 100;
/// Longest wait before another attempt, in milliseconds.
const RECONNECT_WAIT_MS_MAX: u64 = 5_000;
/// Wait before another attempt after a broker was reached but refused what we asked of it, in milliseconds.
pub(crate) const REFUSED_WAIT_MS: u64 = 1_000;

/// How long to go on trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Until told to stop.
    Endless,
    /// This long.
    For(Duration),
}

/// Opens one connection, trying once.
///
/// # Errors
///
/// [`BrokerError::Connect`] if nothing answers, or what answers refuses us.
pub async fn connect_once(url: &AmqpUrl, name: &str) -> Result<Connection, BrokerError> {
    let started = Instant::now();
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    // lapin's own limit ends with the TCP connection: a server that then stays silent would hold us for ever.
    let connected = tokio::time::timeout(url.connect_timeout(), Connection::connect_uri(url.uri(), properties));
    let connected = connected.await.unwrap_or_else(|elapsed| Err(io::Error::from(elapsed).into()));
    connected.map_err(|source| BrokerError::Connect {
        url: url.clone(),
        tried_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        source: Box::new(source),
    })
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
