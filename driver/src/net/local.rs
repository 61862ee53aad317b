//! The local sockets of HTTP: unix sockets that some users of this node may use, or all.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::folder;

/// The permission bits of a socket's folder, if it is created.
const FOLDER_MODE: u32 = 0o755;

/// The permission bits with which all users can reach a file in a folder, and not list it.
const PASS: u32 = 0o011;

/// Whose socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Its user and its group may ask for changes.
    Operators,
    /// All users of the node may connect.
    Everyone,
}

impl Door {
    /// The permission bits of the socket.
    const fn mode(self) -> u32 {
        match self {
            Self::Operators => 0o660,
            Self::Everyone => 0o666,
        }
    }

    /// The flag that names the socket.
    const fn flag(self) -> &'static str {
        match self {
            Self::Operators => "--http-socket",
            Self::Everyone => "--instance-socket",
        }
    }
}

/// An error of a local socket.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve HTTP at the socket {}: {why} ({} PATH names another one, none: no socket)", path.display(), door.flag())]
pub struct Error {
    path: PathBuf,
    door: Door,
    why: io::Error,
}

/// Listens at a path. A socket that nobody serves any more is replaced.
///
/// # Errors
///
/// If another program serves the path, or the system refuses it.
pub fn listen(path: &Path, door: Door) -> Result<UnixListener, Error> {
    bind(path, door).map_err(|why| Error { path: path.to_owned(), door, why })
}

fn bind(path: &Path, door: Door) -> io::Result<UnixListener> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        folder::make(parent, FOLDER_MODE)?;
        if door == Door::Everyone {
            // systemd has made it, with the mode of hax's other folders. That of somebody else stays as it is.
            let of = fs::metadata(parent)?;
            let is_own = of.uid() == rustix::process::geteuid().as_raw();
            if is_own && of.mode() & PASS != PASS {
                fs::set_permissions(parent, fs::Permissions::from_mode(of.mode() | PASS))?;
            }
        }
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file already"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(ErrorKind::AddrInUse, "another program serves it"));
        }
        _ => {}
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    // The socket gets its name once it has its mode, so that no other user connects in between.
    let new = path.with_file_name(name);
    let _ = fs::remove_file(&new);
    let listener = UnixListener::bind(&new)?;
    let named = fs::set_permissions(&new, fs::Permissions::from_mode(door.mode()))
        .and_then(|()| fs::rename(&new, path))
        .and_then(|()| listener.set_nonblocking(true));
    if named.is_err() {
        let _ = fs::remove_file(&new);
    }
    named.map(|()| listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_taken_over_from_the_dead_only() {
        let dir = std::env::temp_dir().join(format!("hax-local-{}", std::process::id()));
        let path = dir.join("http.sock");
        let first = listen(&path, Door::Operators).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let why = listen(&path, Door::Operators).unwrap_err().to_string();
        assert!(
            why.contains("another program serves it") && why.contains("--http-socket"),
            "{why}"
        );
        drop(first);
        let second = listen(&path, Door::Everyone).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
        UnixStream::connect(&path).unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        drop(second);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "text").unwrap();
        let why = listen(&path, Door::Everyone).unwrap_err().to_string();
        assert!(why.contains("--instance-socket"), "{why}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        fs::remove_dir_all(dir).unwrap();
    }
}
