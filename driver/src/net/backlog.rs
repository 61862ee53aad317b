//! The last connections of a listener that is about to be closed.
//!
//! Closing a listener resets every connection in its backlog, and a real peer may crash on a reset. So the
//! waiting connections are accepted first. Meanwhile a filter drops new requests to connect (SYN), as if they
//! had been lost in the network, so no peer joins the backlog. The peer repeats its SYN a second later. Then
//! the system refuses it, or the next hax accepts it.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockFilter, SockRef};

use crate::host::timer::Timer;

/// The time that half-open connections get to complete their handshake.
const COMPLETE_WITHIN: Duration = Duration::from_millis(50);

/// A BPF program that drops TCP segments with SYN and without ACK (`linux/bpf_common.h`).
const NO_REQUESTS: [SockFilter; 5] = [
    // Load the byte of flags.
    SockFilter::new(0x30, 0, 0, 13),
    // Keep the bits SYN (2) and ACK (16).
    SockFilter::new(0x54, 0, 0, 2 | 16),
    SockFilter::new(0x15, 0, 1, 2),
    SockFilter::new(0x06, 0, 0, 0),
    SockFilter::new(0x06, 0, 0, u32::MAX),
];

/// Accepts all connections in the backlog of `listener` and stops new ones. After this the listener can be
/// closed without a reset. The sockets are non-blocking.
pub async fn drain_backlog<T: Timer>(
    listener: &impl AsFd,
    mut take: impl FnMut(TcpStream, SocketAddr),
) {
    let listener = SockRef::from(listener);
    match listener.attach_filter(&NO_REQUESTS) {
        Ok(()) => T::sleep(COMPLETE_WITHIN).await,
        // Without the filter, a peer that connects before the close gets a reset.
        Err(why) => tracing::debug!(target: "hax", %why, "requests to connect are not passed over"),
    }
    loop {
        match accept(&listener) {
            Ok((stream, peer)) => take(stream, peer),
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            // The peer has closed the connection again.
            Err(why) if why.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => return,
            Err(why) => {
                tracing::warn!(target: "hax", %why, "some that waited to be accepted are reset");
                return;
            }
        }
    }
}

fn accept(listener: &SockRef<'_>) -> io::Result<(TcpStream, SocketAddr)> {
    let (socket, peer) = listener.accept()?;
    socket.set_nonblocking(true)?;
    let peer = peer.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((socket.into(), peer))
}
