//! Binding the sockets of a node, with errors that say which setting to change.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

/// How many processes may wait to be accepted: all of a large cluster's may start at once, and one for
/// which there is no room here tries again after a second at the earliest.
const MOTR_BACKLOG: i32 = 1024;

/// The same for HTTP: a flood, which is worked off at once, shall not make others wait for that second. The
/// system's limit (`net.core.somaxconn`) may be lower.
const HTTP_BACKLOG: i32 = 4096;

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
    bind(address, MOTR_BACKLOG).map_err(|why| Error {
        what: "Motr",
        address: address.to_string(),
        why,
        hint,
    })
}

/// Listens for HTTP at the first address of `host` that can be had; `found` are all of them.
pub fn http(
    host: &str,
    port: u16,
    found: io::Result<Vec<SocketAddr>>,
) -> Result<TcpListener, Error> {
    let hint = "the address is that of --http, or of Consul's entry of hax";
    first(found).map_err(|why| Error { what: "HTTP", address: format!("{host}:{port}"), why, hint })
}

/// What to do about a node's name at which hax does not listen.
pub const NAME_HINT: &str = "give the node's name an address of this host, in /etc/hosts or the name \
    service, or have Consul's watches post to the address of --http";

/// Listens for HTTP at an address of the node's name.
pub fn name(address: SocketAddr) -> Result<TcpListener, Error> {
    let address_of = address.to_string();
    bind(address, HTTP_BACKLOG).map_err(|why| Error {
        what: "HTTP",
        address: address_of,
        why,
        hint: NAME_HINT,
    })
}

fn first(found: io::Result<Vec<SocketAddr>>) -> io::Result<TcpListener> {
    let mut last = io::Error::other("the name has no address");
    for address in found? {
        match bind(address, HTTP_BACKLOG) {
            Ok(listener) => return Ok(listener),
            Err(why) => last = why,
        }
    }
    Err(last)
}

/// A listener that does not block.
fn bind(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // What is left of the connections of an earlier life does not keep the address.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}
