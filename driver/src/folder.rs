//! The folder of a daemon: the check of its owner, and its lock. The lock gives the folder to one daemon at a
//! time.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::lock::lock;

/// A reason why a folder cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another daemon serves the folder.
    #[error("{0:?} is served by another hax already")]
    Served(PathBuf),
    /// Another user owns the folder, and could put pipes and files into it.
    #[error("{0:?} belongs to user {1}, not to the user who runs this")]
    Owner(PathBuf, u32),
    /// Other users can write to the folder, and could put pipes and files into it.
    #[error("{0:?} can be written to by others (chmod go-w, or o-w where a group is meant to)")]
    Writable(PathBuf),
    /// The name of the pipe belongs to a file of another type.
    #[error("{0:?} is no pipe; remove it")]
    NoPipe(PathBuf),
    /// A system call has failed.
    #[error("{0:?}: {1}")]
    System(PathBuf, io::Error),
}

/// Creates the folder with these permission bits if it does not exist.
pub(crate) fn make(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o750).create(path)?;
    // The umask may have cleared some of the bits.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Creates the folder if it does not exist, and takes it for this daemon. The next daemon can take it when
/// the returned descriptor is closed. The folder must belong to the daemon's user and have none of the bits
/// in `forbidden`.
pub(crate) fn take(path: &Path, mode: u32, forbidden: u32) -> Result<OwnedFd, FolderError> {
    let system = |why: io::Error| FolderError::System(path.to_owned(), why);
    make(path, mode).map_err(system)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(CWD, path, flags, Mode::empty()).map_err(|why| system(why.into()))?;
    let found = fstat(&folder).map_err(|why| system(why.into()))?;
    if found.st_uid != geteuid().as_raw() {
        return Err(FolderError::Owner(path.to_owned(), found.st_uid));
    }
    if found.st_mode & forbidden != 0 {
        return Err(FolderError::Writable(path.to_owned()));
    }
    match lock(&folder) {
        Err(Errno::WOULDBLOCK) => Err(FolderError::Served(path.to_owned())),
        locked => locked.map(|()| folder).map_err(|why| system(why.into())),
    }
}
