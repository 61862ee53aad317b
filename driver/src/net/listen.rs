//! Binding of a node's sockets, with errors that name the setting to change.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

/// The backlog of the listener for Motr. All processes of a large cluster may start at once. A process
/// without room in the backlog retries after a second at the earliest.
const MOTR_BACKLOG: i32 = 1024;

/// The backlog of an HTTP listener. A burst of connections is accepted quickly, so it must not cost other
/// clients that second. The system's limit (`net.core.somaxconn`) may be lower.
const HTTP_BACKLOG: i32 = 4096;

/// An error of binding or listening at an address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {address} for {what}: {why} ({hint})")]
pub struct Error {
    what: &'static str,
    address: String,
    why: io::Error,
    hint: &'static str,
}

impl Error {
    /// Returns whether another socket listens at the address already.
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

/// Listens at a Motr endpoint; `hint` names the setting with the address.
pub fn endpoint(address: SocketAddr, hint: &'static str) -> Result<TcpListener, Error> {
    bind(address, MOTR_BACKLOG).map_err(|why| Error {
        what: "Motr",
        address: address.to_string(),
        why,
        hint,
    })
}

/// Listens for HTTP at the first usable address of `host`; `found` has all its addresses.
pub fn http(
    host: &str,
    port: u16,
    found: io::Result<Vec<SocketAddr>>,
) -> Result<TcpListener, Error> {
    let hint = "the address is that of --http, or of Consul's entry of hax";
    first(found).map_err(|why| Error { what: "HTTP", address: format!("{host}:{port}"), why, hint })
}

/// The advice for a node's name at which hax cannot listen.
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

/// Binds a non-blocking listener.
fn bind(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Connections of an earlier run in TIME_WAIT must not keep the address in use.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}
