//! The server's version, read from the first frame of the AMQP handshake.
//!
//! lapin reads that frame too but keeps the server's properties to itself.

use std::time::Duration;

use amq_protocol::{
    frame::{AMQPFrame, parse_frame},
    protocol::{AMQPClass, connection::AMQPMethod},
    types::AMQPValue,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use topology::ServerVersion;

use crate::{AmqpUrl, BrokerError};

/// Protocol header of AMQP 0-9-1, section 4.2.2 of its specification.
const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";
/// Largest first frame that we read, in bytes; RabbitMQ's has about 500.
const FIRST_FRAME_BYTES_MAX: usize = 64 * 1024;
/// How long the server may take to introduce itself, in milliseconds.
const HANDSHAKE_MS_MAX: u64 = 10_000;

/// Asks the first server that answers for its version, without logging in.
///
/// # Errors
///
/// [`BrokerError::Version`] if nothing answers, if what answers is no RabbitMQ, or over TLS (not supported here).
pub async fn server_version(url: &AmqpUrl) -> Result<ServerVersion, BrokerError> {
    let fail = |reason: String| BrokerError::Version { url: url.clone(), reason };
    if url.is_tls() {
        return Err(fail("unavailable over TLS, because lapin does not show the server's properties".to_owned()));
    }
    let mut reason = String::new();
    for address in url.authorities() {
        let answer = tokio::time::timeout(Duration::from_millis(HANDSHAKE_MS_MAX), handshake(address)).await;
        reason = match answer {
            Ok(Ok(text)) => return text.parse().map_err(|error| fail(format!("{error}"))),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {HANDSHAKE_MS_MAX} ms"),
        };
    }
    Err(fail(reason))
}

async fn handshake(address: (&str, u16)) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(PROTOCOL_HEADER).await?;
    let mut received = Vec::new();
    loop {
        if stream.read_buf(&mut received).await? == 0 {
            return Err(std::io::Error::other("the server closed the connection without introducing itself"));
        }
        if let Ok((_, AMQPFrame::Method(_, AMQPClass::Connection(AMQPMethod::Start(start))))) =
            parse_frame(&received[..])
        {
            let version = start.server_properties.into_iter().find(|(key, _)| key.as_str() == "version");
            return match version {
                Some((_, AMQPValue::LongString(text))) => Ok(text.to_string()),
                _ => Err(std::io::Error::other("the server does not say its version")),
            };
        }
        if received.len() > FIRST_FRAME_BYTES_MAX {
            return Err(std::io::Error::other("the server does not speak AMQP 0-9-1"));
        }
    }
}
