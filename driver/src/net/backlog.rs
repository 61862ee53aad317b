//! The last of those who connect.
//!
//! Closing a listener resets every connection that waits in its backlog, and a real peer may crash on that.
//! So they are taken in, and nobody can join them meanwhile: a filter passes over requests to connect, as if
//! they had been lost on the way. Whoever made one asks again a second later, and is refused in words of the
//! system or is let in by the next hax.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockFilter, SockRef};

use crate::host::timer::Timer;

/// How long connections that have begun may take to be complete.
const COMPLETE_WITHIN: Duration = Duration::from_millis(50);

/// Of a segment of TCP it passes over what has SYN and not ACK (`linux/bpf_common.h`).
const NO_REQUESTS: [SockFilter; 5] = [
    // The byte of flags.
    SockFilter::new(0x30, 0, 0, 13),
    // SYN is 2, ACK is 16.
    SockFilter::new(0x54, 0, 0, 2 | 16),
    SockFilter::new(0x15, 0, 1, 2),
    SockFilter::new(0x06, 0, 0, 0),
    SockFilter::new(0x06, 0, 0, u32::MAX),
];

/// Takes in whoever waits in the backlog of `listener`, and sees to it that nobody does any more: after this
/// it can be closed without a reset. The sockets do not block.
pub async fn take_rest<T: Timer>(
    listener: &impl AsFd,
    mut take: impl FnMut(TcpStream, SocketAddr),
) {
    let listener = SockRef::from(listener);
    match listener.attach_filter(&NO_REQUESTS) {
        Ok(()) => T::sleep(COMPLETE_WITHIN).await,
        // Who comes in the next moment has bad luck.
        Err(why) => tracing::debug!(target: "hax", %why, "requests to connect are not passed over"),
    }
    loop {
        match accept(&listener) {
            Ok((stream, peer)) => take(stream, peer),
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            // It has gone again.
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
