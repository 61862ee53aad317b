//! Fixtures of the adapters' tests.
#![expect(dead_code, reason = "each test program uses its part")]

pub(crate) mod certs;
pub(crate) mod cluster;
pub(crate) mod hax;
pub(crate) mod program;

use std::time::Duration;

use async_channel::Receiver;
use hax_driver::host::platform::Platform as _;
use hax_tokio::Tokio;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Runs a test on the daemon's runtime, for a minute at most.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let limited = async {
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("within a minute");
    };
    Tokio::block_on(limited).unwrap();
}

/// Returns a listener on a port that the system chose.
pub(crate) async fn listener() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Returns an address without a listener.
pub(crate) async fn nobody() -> std::net::SocketAddr {
    listener().await.1
}

pub(crate) async fn next<T>(from: &Receiver<T>) -> T {
    from.recv().await.unwrap()
}

/// Sends `text` and reads until the end of the connection.
pub(crate) async fn exchange(address: std::net::SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}
