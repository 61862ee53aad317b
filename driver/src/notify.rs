//! What systemd is told (`Type=notify`): that the daemon serves, that it stops.
//!
//! The protocol is one datagram to the socket that `NOTIFY_SOCKET` names; without it nothing is said.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

/// The daemon serves.
pub fn ready() {
    tell("READY=1");
}

/// The daemon reads its files again; [`ready`] is said when that is done.
pub fn reloading() {
    tell("RELOADING=1");
}

/// The daemon has begun to stop.
pub fn stopping() {
    tell("STOPPING=1");
}

fn tell(what: &str) {
    let Ok(socket) = std::env::var("NOTIFY_SOCKET") else { return };
    if let Err(why) = send(&socket, what) {
        tracing::warn!(target: "hax", %why, "cannot notify {socket}");
    }
}

/// A name that begins with `@` is an abstract one.
fn send(socket: &str, what: &str) -> io::Result<()> {
    let to = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(Path::new(socket))?,
    };
    UnixDatagram::unbound()?.send_to_addr(what.as_bytes(), &to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_sockets_are_told() {
        let name = format!("hax-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let path = std::env::temp_dir().join(&name);
        let _ = std::fs::remove_file(&path);
        let sockets =
            [UnixDatagram::bind_addr(&address).unwrap(), UnixDatagram::bind(&path).unwrap()];
        let names = [format!("@{name}"), path.to_str().unwrap().to_owned()];
        for (socket, name) in sockets.iter().zip(&names) {
            send(name, "READY=1").unwrap();
            let mut bytes = [0; 16];
            let n = socket.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..n], b"READY=1");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(send("/nonexistent/socket", "READY=1").is_err());
    }
}
