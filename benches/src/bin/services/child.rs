//! The service that is measured: this program itself, which tells that it has been started.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The flag that makes this program the service.
pub(crate) const FLAG: &str = "--child";

/// Returns the socket to tell, if this process is the service.
pub(crate) fn socket() -> Option<PathBuf> {
    let mut args = std::env::args().skip(1);
    (args.next().as_deref() == Some(FLAG)).then(|| args.next().map(PathBuf::from)).flatten()
}

/// Tells the process id, and rests until a signal ends it.
pub(crate) fn run(socket: &Path) -> anyhow::Result<()> {
    let pid = std::process::id().to_be_bytes();
    UnixDatagram::unbound()?.send_to(&pid, socket).context("the socket")?;
    loop {
        std::thread::park();
    }
}
