//! Binding the sockets of a node, with errors that say which setting to change.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// How many processes may wait to be accepted: all of a large cluster's may start at once, and one for
/// which there is no room here tries again after a second at the earliest.
const BACKLOG: u32 = 1024;

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
pub fn motr(address: SocketAddr) -> Result<TcpListener, Error> {
    endpoint(
        address,
        "the address is that of hax's endpoint: --motr-endpoint, or Consul's entry of hax",
    )
}

/// Listens for whom a process of Motr listens for; `hint` says which setting the address is.
pub fn endpoint(address: SocketAddr, hint: &'static str) -> Result<TcpListener, Error> {
    bind(address).map_err(|why| Error { what: "Motr", address: address.to_string(), why, hint })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // What is left of the connections of an earlier life does not keep the address.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
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
