//! The option of a socket that gets its port when it connects.
#![expect(unsafe_code, reason = "neither rustix nor socket2 has this option")]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// Lets the system choose the socket's port when it connects, not when it is bound to an address
/// (`ip(7)`: `IP_BIND_ADDRESS_NO_PORT`).
///
/// A port that is chosen without the peer's address must be free for every peer. The search takes longer the
/// more connections there are, and a machine with as many connections as ports has none left.
///
/// # Errors
///
/// If the system does not know the option (before Linux 4.2).
pub(super) fn late_port(socket: impl AsFd) -> io::Result<()> {
    let on: c_int = 1;
    let length = libc::socklen_t::try_from(size_of::<c_int>()).map_err(io::Error::other)?;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the value is an int, it outlives the call, and its length is told.
    let set = unsafe {
        libc::setsockopt(
            socket,
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            length,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
