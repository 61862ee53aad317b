//! The server's folder, and the pipes in it.

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

/// The folder and the pipes in it are for the server's user and its group. New files get the folder's group.
const FOLDER_MODE: u32 = 0o2770;
const PIPE_MODE: u32 = 0o660;

/// Others may write.
const WRITABLE: u32 = 0o002;

/// A client's pipes that are older than this are a dead client's; those of a living one are taken at once. So often
/// are they looked for while clients come.
pub(super) const ABANDONED: Duration = Duration::from_secs(60);

/// How pipes are opened: none is waited for, and links are not followed.
pub(super) const SAFE: OFlags = OFlags::NONBLOCK.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A folder that is served, and its pipe for announcements. The next server can have it when this is dropped.
#[derive(Debug)]
pub struct Folder {
    folder: OwnedFd,
    requests: OwnedFd,
}

impl Folder {
    /// Makes the folder, if there is none.
    ///
    /// # Errors
    ///
    /// The system cannot do it.
    pub fn make(path: &Path) -> io::Result<()> {
        folder::make(path, FOLDER_MODE)
    }

    /// Makes the folder, if there is none, and takes it for this server.
    ///
    /// # Errors
    ///
    /// See [`FolderError`].
    pub fn serve(path: &Path) -> Result<Self, FolderError> {
        let folder = folder::take(path, FOLDER_MODE, WRITABLE)?;
        let system = |why: rustix::io::Errno| FolderError::System(path.join(REQUESTS), why.into());
        // A new pipe each time: who announced himself to the last server sees that it is gone.
        match statat(&folder, REQUESTS, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if !is_pipe(&found) => return Err(FolderError::NoPipe(path.join(REQUESTS))),
            Ok(_) => unlinkat(&folder, REQUESTS, AtFlags::empty()).map_err(system)?,
            Err(rustix::io::Errno::NOENT) => {}
            Err(why) => return Err(system(why)),
        }
        mkfifoat(&folder, REQUESTS, Mode::from_raw_mode(PIPE_MODE)).map_err(system)?;
        // Open for writing too, it does not end when the last client has closed it.
        let requests =
            openat(&folder, REQUESTS, OFlags::RDWR | SAFE, Mode::empty()).map_err(system)?;
        share(&requests, &folder).map_err(system)?;
        let folder = Self { folder, requests };
        folder.sweep(ABANDONED);
        Ok(folder)
    }

    /// Where clients announce themselves.
    pub(super) fn requests(&self) -> BorrowedFd<'_> {
        self.requests.as_fd()
    }

    /// The two pipes of a client: its request and its answer. They have no names any more. None if they are not
    /// what a living client makes.
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
        // One that has still a name has been linked here from somewhere else.
        let is_own = |found: &Stat| is_pipe(found) && found.st_nlink == 0;
        (is_own(&a) && is_own(&b) && a.st_uid == b.st_uid).then_some((request, answer))
    }

    /// Removes what dead clients have left: clients' pipes of this age that nobody has announced.
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

    /// Removes the pipe for announcements: nobody serves any more.
    pub(super) fn leave(&self) {
        let _ = unlinkat(&self.folder, REQUESTS, AtFlags::empty());
        self.sweep(ABANDONED);
    }
}

/// Gives a pipe to the folder's group, whatever the umask is.
pub(super) fn share(pipe: impl AsFd, folder: impl AsFd) -> rustix::io::Result<()> {
    let group = fstat(folder)?.st_gid;
    if fstat(&pipe)?.st_gid != group {
        // Only a member may; for others it stays as it is.
        let _ = fchown(&pipe, None, Some(Gid::from_raw(group)));
    }
    fchmod(&pipe, Mode::from_raw_mode(PIPE_MODE))
}

pub(super) fn is_pipe(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Fifo
}
