//! The proxy in front of a server that says everything back.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
};

use super::*;

/// A server that says everything back, on a port of its own.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut reader = stream.try_clone().expect("a second handle");
                // A reset ends it, as it should.
                drop(io::copy(&mut reader, &mut &stream));
            });
        }
    });
    address
}

fn connect(proxy: &TcpProxy) -> TcpStream {
    TcpStream::connect(("127.0.0.1", proxy.port())).expect("it accepts")
}

fn say(stream: &mut TcpStream, text: &[u8]) -> Vec<u8> {
    stream.write_all(text).expect("sent");
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).expect("answered");
    answer
}

#[test]
fn it_passes_everything_on_and_the_end_too() {
    let proxy = TcpProxy::start(echo()).expect("a proxy");
    let mut stream = connect(&proxy);
    assert_eq!(say(&mut stream, b"hello"), b"hello");
    let long: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut writer = stream.try_clone().expect("a second handle");
    let sent = long.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&sent).expect("sent");
        writer.shutdown(Shutdown::Write).expect("ended");
    });
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answered");
    writing.join().expect("written");
    assert!(answer == long, "{} bytes of {}", answer.len(), long.len());
}

#[test]
fn a_trap_takes_the_first_that_steps_in_and_no_other() {
    let proxy = TcpProxy::start(echo()).expect("a proxy");
    let mut streams = [connect(&proxy), connect(&proxy)];
    proxy.reset_at(b"word");
    assert_eq!(say(&mut streams[0], b"harmless"), b"harmless");
    assert!(!proxy.has_reset());
    streams[0].write_all(b"a word too much").expect("sent");
    let error = streams[0].read(&mut [0; 16]).expect_err("it is reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(proxy.has_reset());
    assert_eq!(say(&mut streams[1], b"a word too much"), b"a word too much");
}

#[test]
fn a_reset_is_one_and_the_next_connection_works() {
    let proxy = TcpProxy::start(echo()).expect("a proxy");
    let mut streams = [connect(&proxy), connect(&proxy)];
    for stream in &mut streams {
        assert_eq!(say(stream, b"x"), b"x");
    }
    proxy.reset_all();
    for stream in &mut streams {
        let error = stream.read(&mut [0]).expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(say(&mut connect(&proxy), b"y"), b"y");
}

#[test]
fn a_black_hole_takes_connections_and_gives_nothing_until_it_ends() {
    let proxy = TcpProxy::start(echo()).expect("a proxy");
    let mut before = connect(&proxy);
    assert_eq!(say(&mut before, b"x"), b"x");
    proxy.black_hole(true);
    let mut during = connect(&proxy);
    for stream in [&mut before, &mut during] {
        stream.write_all(b"late").expect("taken");
        stream.set_read_timeout(Some(Duration::from_millis(100))).expect("set");
        let error = stream.read(&mut [0]).expect_err("silence");
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        stream.set_read_timeout(None).expect("set");
    }
    proxy.black_hole(false);
    for stream in [&mut before, &mut during] {
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).expect("answered");
        assert_eq!(&answer, b"late");
    }
}

#[test]
fn a_delay_holds_what_is_sent_from_then_on() {
    let proxy = TcpProxy::start(echo()).expect("a proxy");
    let mut stream = connect(&proxy);
    assert_eq!(say(&mut stream, b"x"), b"x");
    let delay = Duration::from_millis(50);
    proxy.delay(delay);
    let started = std::time::Instant::now();
    assert_eq!(say(&mut stream, b"y"), b"y");
    assert!(started.elapsed() >= 2 * delay, "there and back in {:?}", started.elapsed());
}

#[test]
fn a_proxy_without_its_server_resets_and_without_itself_is_gone() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let proxy = TcpProxy::start_at(port).expect("a proxy");
    assert!(connect(&proxy).read(&mut [0]).is_err());
    let (echoing, url) = (TcpProxy::start(echo()).expect("a proxy"), "amqp://a:b@host:1/v".parse().expect("a URL"));
    assert_eq!(echoing.url_through(&url).authority(), ("127.0.0.1", echoing.port()));
    let mut stream = connect(&echoing);
    assert_eq!(say(&mut stream, b"x"), b"x");
    drop(echoing);
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
}
