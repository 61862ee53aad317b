//! The server's folder and the pipes in it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use hax_core::fifo::{REQUESTS, Token};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, fchmod, fchown, fstat, mkfifoat, openat,
    statat, unlinkat,
};

use crate::folder::{self, FolderError};
use crate::host::clock;

/// The permission bits of the folder. The folder and its pipes are for the server's user and its group. New
/// files get the folder's group.
const FOLDER_MODE: u32 = 0o2770;
const PIPE_MODE: u32 = 0o660;

/// The permission bit for writing by others.
const WRITABLE: u32 = 0o002;

/// The minimum age of abandoned pipes, left by dead clients. The pipes of a living client are taken at once.
/// While clients come, the folder is searched for abandoned pipes with this period.
pub(super) const ABANDONED: Duration = Duration::from_secs(60);

/// The flags for opening pipes: no open blocks, and no link is followed.
pub(super) const SAFE: OFlags = OFlags::NONBLOCK.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A served folder, with its pipe for announcements. The next server can take it when this value is dropped.
#[derive(Debug)]
pub struct Folder {
    folder: OwnedFd,
    requests: OwnedFd,
}

impl Folder {
    /// Creates the folder if it does not exist.
    ///
    /// # Errors
    ///
    /// If a system call fails.
    pub fn make(path: &Path) -> io::Result<()> {
        folder::make(path, FOLDER_MODE)
    }

    /// Creates the folder if it does not exist, and takes it for this server.
    ///
    /// # Errors
    ///
    /// See [`FolderError`].
    pub fn serve(path: &Path) -> Result<Self, FolderError> {
        let folder = folder::take(path, FOLDER_MODE, WRITABLE)?;
        let system = |why: rustix::io::Errno| FolderError::System(path.join(REQUESTS), why.into());
        // The pipe is created anew each time, so that a client which announced itself to the last server sees
        // that this server is gone.
        match statat(&folder, REQUESTS, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if !is_pipe(&found) => return Err(FolderError::NoPipe(path.join(REQUESTS))),
            Ok(_) => unlinkat(&folder, REQUESTS, AtFlags::empty()).map_err(system)?,
            Err(rustix::io::Errno::NOENT) => {}
            Err(why) => return Err(system(why)),
        }
        mkfifoat(&folder, REQUESTS, Mode::from_raw_mode(PIPE_MODE)).map_err(system)?;
        // The server opens the pipe for writing, too. So the pipe does not reach its end when the last client
        // closes it.
        let requests =
            openat(&folder, REQUESTS, OFlags::RDWR | SAFE, Mode::empty()).map_err(system)?;
        share(&requests, &folder).map_err(system)?;
        let folder = Self { folder, requests };
        folder.sweep(ABANDONED);
        Ok(folder)
    }

    /// Returns the pipe for the announcements of clients.
    pub(super) fn requests(&self) -> BorrowedFd<'_> {
        self.requests.as_fd()
    }

    /// Opens the two pipes of a client, for its request and for its reply, and removes their names. Returns
    /// `None` if they are not the pipes of a living client.
    pub(super) fn take(&self, token: &Token) -> Option<(OwnedFd, OwnedFd)> {
        let open = |name: &str, flags| openat(&self.folder, name, flags | SAFE, Mode::empty());
        let (request_pipe, answer_pipe) = (token.request_pipe(), token.answer_pipe());
        let request = open(&request_pipe, OFlags::RDONLY).ok();
        let answer = open(&answer_pipe, OFlags::WRONLY).ok();
        for name in [&request_pipe, &answer_pipe] {
            let is_pipe = statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|found| is_pipe(&found));
            if is_pipe {
                let _ = unlinkat(&self.folder, name, AtFlags::empty());
            }
        }
        let (request, answer) = request.zip(answer)?;
        let (a, b) = (fstat(&request).ok()?, fstat(&answer).ok()?);
        // A pipe that still has a name has been linked here from elsewhere.
        let is_own = |found: &Stat| is_pipe(found) && found.st_nlink == 0;
        (is_own(&a) && is_own(&b) && a.st_uid == b.st_uid).then_some((request, answer))
    }

    /// Removes the pipes of dead clients, which are unannounced pipes older than `age`.
    pub(super) fn sweep(&self, age: Duration) {
        let Ok(entries) = Dir::read_from(&self.folder) else { return };
        let now = clock::wall().0 / 1_000_000_000;
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().to_str() else { continue };
            if Token::of_pipe(name).is_none() {
                continue;
            }
            let Ok(found) = statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let made = u64::try_from(found.st_ctime).unwrap_or_default();
            if is_pipe(&found) && now.saturating_sub(made) >= age.as_secs() {
                let _ = unlinkat(&self.folder, name, AtFlags::empty());
            }
        }
    }

    /// Removes the pipe for announcements, since the server stops.
    pub(super) fn leave(&self) {
        let _ = unlinkat(&self.folder, REQUESTS, AtFlags::empty());
        self.sweep(ABANDONED);
    }
}

/// Gives a pipe to the folder's group, regardless of the umask.
pub(super) fn share(pipe: impl AsFd, folder: impl AsFd) -> rustix::io::Result<()> {
    let group = fstat(folder)?.st_gid;
    if fstat(&pipe)?.st_gid != group {
        // Only a member of the group may do this. For other users the group stays unchanged.
        let _ = fchown(&pipe, None, Some(Gid::from_raw(group)));
    }
    fchmod(&pipe, Mode::from_raw_mode(PIPE_MODE))
}

pub(super) fn is_pipe(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Fifo
}
