//! The server, spoken to as a stranger and as a page would.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::protocol::{Command, LoadCommand, ModelLocation};

async fn server() -> (Server, tempfile::TempDir) {
    let runtime = tempfile::tempdir().expect("temporary directory");
    std::fs::write(runtime.path().join("ort.mjs"), "export {}").expect("writable");
    (Server::start(runtime.path().to_owned()).await.expect("a port"), runtime)
}

/// Sends a request and gives the head and body of the answer.
async fn ask(server: &Server, line: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(server.shared.address).await.expect("it listens");
    let request = format!("{line} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("it answers");
    String::from_utf8_lossy(&answer).into_owned()
}

fn host(server: &Server) -> String {
    format!("Host: {}\r\n", server.shared.address)
}

async fn check(server: &Server, path: &str, headers: &str, expected_status: &str) -> String {
    let answer = ask(server, &format!("GET {path}"), headers).await;
    assert!(answer.starts_with(&format!("HTTP/1.1 {expected_status}")), "{path}: {answer}");
    answer
}

#[tokio::test]
async fn strangers_are_refused() {
    let (server, _runtime) = server().await;
    let page = format!("/{}/page/", server.shared.token);
    let ours = host(&server);
    let answer = check(&server, &page, &ours, "200").await;
    assert!(answer.contains("cross-origin-embedder-policy: require-corp"), "{answer}");
    check(&server, "/wrong/page/", &ours, "403").await;
    check(&server, &page, "Host: example.org\r\n", "403").await;
    check(&server, &page, &format!("{ours}Origin: http://example.org\r\n"), "403").await;
    check(&server, &page, &format!("{ours}Origin: http://{}\r\n", server.shared.address), "200").await;
}

#[tokio::test]
async fn only_what_is_offered_is_served() {
    let (server, runtime) = server().await;
    let root = format!("/{}", server.shared.token);
    let ours = host(&server);
    let sha256 = ContentHash([7; 32]);
    let model = runtime.path().join("model.onnx");
    std::fs::write(&model, "weights").expect("writable");
    let path = format!("{root}/models/{sha256}");
    check(&server, &path, &ours, "404").await;
    let offer = server.offer("j", sha256, model, vec![b"tensor".to_vec()]);
    assert!(check(&server, &path, &ours, "200").await.ends_with("weights"));
    assert!(check(&server, &format!("{root}/inputs/j/0"), &ours, "200").await.ends_with("tensor"));
    check(&server, &format!("{root}/inputs/j/1"), &ours, "404").await;
    drop(offer);
    check(&server, &path, &ours, "404").await;
    check(&server, &format!("{root}/runtime/ort.mjs"), &ours, "200").await;
    check(&server, &format!("{root}/runtime/model.onnx"), &ours, "404").await;
    check(&server, &format!("{root}/runtime/..%2Fort.mjs"), &ours, "404").await;
}

#[tokio::test]
async fn a_page_is_there_as_long_as_its_stream() {
    let (server, _runtime) = server().await;
    let mut link = server.tab(5);
    let model = ModelLocation { key: "k".to_owned(), path: "models/k".to_owned() };
    let command = Command::Verify(LoadCommand { job: "j".to_owned(), platform: "wasm", threads: 1, model });
    assert!(!link.send(command.clone()), "nobody listens yet");
    let path = format!("/{}/tabs/5/commands", server.shared.token);
    let mut stream = TcpStream::connect(server.shared.address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\n{}\r\n", host(&server));
    stream.write_all(request.as_bytes()).await.expect("it reads");
    link.presence.wait_for(|presence| presence.is_there).await.expect("the mailbox is there");
    assert!(link.send(command));
    let mut received = String::new();
    while !received.contains("\"verify\"") {
        let mut chunk = [0; 1024];
        let length = stream.read(&mut chunk).await.expect("it is open");
        received.push_str(&String::from_utf8_lossy(&chunk[..length]));
    }
    drop(stream);
    let presence = *link.presence.wait_for(|presence| !presence.is_there).await.expect("the mailbox is there");
    assert_eq!(presence.pages, 1);
}
