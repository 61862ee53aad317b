//! Binding the sockets of a node, with errors that say which setting to change.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// A socket that cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {address} for {what}: {why} ({hint})")]
pub struct Error {
    what: &'static str,
    address: String,
    why: io::Error,
    hint: &'static str,
}

impl Error {
    /// Whether somebody listens there already.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.why.kind() == io::ErrorKind::AddrInUse
    }
}

/// Listens for Motr's processes.
pub async fn motr(address: SocketAddr) -> Result<TcpListener, Error> {
    let hint = "the address is that of hax's endpoint: --motr-endpoint, or Consul's entry of hax";
    TcpListener::bind(address).await.map_err(|why| Error {
        what: "Motr",
        address: address.to_string(),
        why,
        hint,
    })
}

/// Listens for HTTP at the first address of `host` that can be had.
pub async fn http(host: &str, port: u16) -> Result<TcpListener, Error> {
    let hint = "the address is that of --http, or of Consul's entry of hax";
    TcpListener::bind((host, port)).await.map_err(|why| Error {
        what: "HTTP",
        address: format!("{host}:{port}"),
        why,
        hint,
    })
}
