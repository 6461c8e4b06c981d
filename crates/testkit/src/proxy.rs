//! A TCP proxy that can break what goes through it.

use std::{
    collections::VecDeque,
    future::pending,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use broker::AmqpUrl;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep_until},
};

/// Bytes read at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks under way in one direction of a connection: what a slow or silent network holds before its sender blocks.
const CHUNKS_MAX: usize = 256;

/// A proxy on a free port of 127.0.0.1, in front of one server; dropping it closes everything that goes through it.
#[derive(Debug)]
pub struct TcpProxy {
    port: u16,
    faults: watch::Sender<Faults>,
    trap: Trap,
}

/// Bytes that break the connection of the client that sends them, once.
type Trap = Arc<Mutex<Option<Vec<u8>>>>;

/// What is wrong with the network.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    /// Nothing arrives.
    is_black_hole: bool,
    /// How much later everything arrives.
    delay: Duration,
    /// How often all connections were reset.
    resets: u64,
}

impl TcpProxy {
    /// Starts a proxy in front of `target`, which need not be there yet.
    ///
    /// # Errors
    ///
    /// What the system says if it gives no port or no thread.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        listener.set_nonblocking(true)?;
        // A thread of its own, so that tests without a runtime can use it, and a busy runtime does not slow it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (faults, seen) = watch::channel(Faults::default());
        let trap = Trap::default();
        let set = Arc::clone(&trap);
        thread::Builder::new().name("tcp-proxy".to_owned()).spawn(move || {
            runtime.block_on(accept(listener, target, seen, set));
        })?;
        Ok(Self { port, faults, trap })
    }

    /// The same in front of a port of 127.0.0.1, such as a private node's.
    ///
    /// # Errors
    ///
    /// As [`TcpProxy::start`].
    pub fn start_at(port: u16) -> io::Result<Self> {
        Self::start((Ipv4Addr::LOCALHOST, port).into())
    }

    /// The port on which it takes connections.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same URL, through this proxy.
    pub fn url_through(&self, url: &AmqpUrl) -> AmqpUrl {
        url.at("127.0.0.1", self.port)
    }

    /// Resets all connections (RST): both ends notice at once, and what was under way is lost.
    pub fn reset_all(&self) {
        self.faults.send_modify(|faults| faults.resets += 1);
    }

    /// Resets the connection of the first client that sends these bytes, in one piece, and only that; they do not
    /// arrive.
    pub fn reset_at(&self, bytes: &[u8]) {
        *self.trap.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes.to_vec());
    }

    /// Whether the reset of [`TcpProxy::reset_at`] has happened.
    pub fn has_reset(&self) -> bool {
        self.trap.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// While on, connections are accepted and nothing passes, in no direction; neither end is told. What was sent
    /// meanwhile arrives afterwards, as with a network that comes back.
    pub fn black_hole(&self, on: bool) {
        self.faults.send_modify(|faults| faults.is_black_hole = on);
    }

    /// How much later everything arrives that is sent from now on.
    pub fn delay(&self, delay: Duration) {
        self.faults.send_modify(|faults| faults.delay = delay);
    }
}

/// Takes connections until the proxy is dropped.
async fn accept(listener: TcpListener, target: SocketAddr, faults: watch::Receiver<Faults>, trap: Trap) {
    let mut until_dropped = faults.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                tokio::spawn(connection(client, target, faults.clone(), Arc::clone(&trap)));
            },
            dropped = until_dropped.changed() => if dropped.is_err() { return },
        }
    }
}

/// One connection, from its first byte to its last.
async fn connection(mut client: TcpStream, target: SocketAddr, mut faults: watch::Receiver<Faults>, trap: Trap) {
    let resets = faults.borrow().resets;
    let mut waiting = faults.clone();
    let mut server = tokio::select! {
        () = reset_since(resets, &mut faults) => return abort(&[&client]),
        server = async { light(&mut waiting).await; TcpStream::connect(target).await } => match server {
            Ok(server) => server,
            Err(_) => return abort(&[&client]),
        },
    };
    // Small frames should arrive when they are sent, not when there are more.
    let swift = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            () = reset_since(resets, &mut faults) => Err(io::ErrorKind::ConnectionReset.into()),
            ended = async {
                tokio::try_join!(
                    carry(from_client, to_server, waiting.clone(), |sent| springs(&trap, sent)),
                    carry(from_server, to_client, waiting.clone(), |_| false),
                )
            } => ended,
        }
    };
    if swift.and(ended.map(drop)).is_err() {
        abort(&[&client, &server]);
    }
}

/// Whether the trap was set for some of these bytes; it is not set any more then.
fn springs(trap: &Trap, sent: &[u8]) -> bool {
    let mut trap = trap.lock().unwrap_or_else(PoisonError::into_inner);
    let is_caught = trap.as_ref().is_some_and(|bytes| sent.windows(bytes.len()).any(|window| window == bytes));
    is_caught && trap.take().is_some()
}

/// Carries one direction to its end, or to what `breaks` it.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut faults: watch::Receiver<Faults>,
    breaks: impl Fn(&[u8]) -> bool,
) -> io::Result<()> {
    let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut is_open = true;
    while is_open || !under_way.is_empty() {
        let next = under_way.front().map(|(due, _)| *due);
        tokio::select! {
            read = from.read(&mut chunk), if is_open && under_way.len() < CHUNKS_MAX => {
                let bytes = read?;
                is_open = bytes > 0;
                if breaks(&chunk[..bytes]) {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                // The end is under way as anything else.
                under_way.push_back((Instant::now() + faults.borrow().delay, chunk[..bytes].to_vec()));
            }
            () = arrival(next, &mut faults) => {
                let bytes = under_way.pop_front().map(|(_, bytes)| bytes).unwrap_or_default();
                if bytes.is_empty() { to.shutdown().await? } else { to.write_all(&bytes).await? }
            }
        }
    }
    Ok(())
}

/// Waits until what is due then may arrive.
async fn arrival(due: Option<Instant>, faults: &mut watch::Receiver<Faults>) {
    let Some(due) = due else { return pending().await };
    sleep_until(due).await;
    light(faults).await;
}

/// Waits until there is no black hole, or no proxy.
async fn light(faults: &mut watch::Receiver<Faults>) {
    while faults.borrow_and_update().is_black_hole {
        if faults.changed().await.is_err() {
            return;
        }
    }
}

/// Waits until all connections are reset once more, or the proxy is gone.
async fn reset_since(resets: u64, faults: &mut watch::Receiver<Faults>) {
    while faults.borrow_and_update().resets == resets {
        if faults.changed().await.is_err() {
            return;
        }
    }
}

/// Makes both ends hear of a reset when these sockets are dropped.
fn abort(sockets: &[&TcpStream]) {
    for socket in sockets {
        // One that is gone already needs none.
        socket.set_zero_linger().unwrap_or_default();
    }
}

#[cfg(test)]
mod tests;
