//! Atomic writes, reads and removals of one file.
//!
//! New content is written to a temporary beside the file, synced to the disk, and renamed over the file.
//! rename(2) shows every reader the old file or the new one. The directory is synced last; otherwise the name
//! could lead to the old file again after a loss of power. A temporary is locked while it is written. The
//! lock distinguishes a temporary that another daemon is writing from one that a killed daemon left behind.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hax_core::base::errno::Errno;
use hax_core::file::Failure;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, fchmod, flock, fstat, fsync, openat,
    renameat, statat, unlinkat,
};
use rustix::process::geteuid;

/// The suffix of a temporary's name.
const TEMPORARY: &str = ".hax-new";

/// The maximum number of attempts to create a temporary, if another daemon removes it before it is locked.
const TRIES: u32 = 100;

/// The next number for the names of this process's temporaries.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A completed step of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Created,
    Written,
    Synced,
    Renamed,
    FolderSynced,
}

/// The location of a file: its opened directory, and its name in it.
pub(crate) struct Target<'a> {
    folder: OwnedFd,
    name: &'a str,
}

impl<'a> Target<'a> {
    pub(crate) fn open(path: &'a str) -> Result<Self, Failure> {
        let (folder, name) = path.rsplit_once('/').ok_or(Failure::Malformed)?;
        let is_name = !matches!(name, "" | "." | "..");
        if !path.starts_with('/') || path.contains('\0') || !is_name {
            return Err(Failure::Malformed);
        }
        let folder = if folder.is_empty() { "/" } else { folder };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, Path::new(folder), flags, Mode::empty()).map_err(system)?;
        Ok(Self { folder, name })
    }

    /// Replaces the file by one with `content`; calls `done` after each step.
    pub(crate) fn write(
        &self,
        mode: u32,
        content: &[u8],
        mut done: impl FnMut(Step),
    ) -> Result<(), Failure> {
        match statat(&self.folder, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile => {
                return Err(Failure::NoFile);
            }
            Ok(_) | Err(rustix::io::Errno::NOENT) => {}
            Err(why) => return Err(system(why)),
        }
        let (mut file, temporary) = self.temporary()?;
        done(Step::Created);
        let renamed = (|| {
            file.write_all(content)?;
            fchmod(&file, Mode::from_raw_mode(mode))?;
            done(Step::Written);
            fsync(&file)?;
            done(Step::Synced);
            renameat(&self.folder, &*temporary, &self.folder, self.name)?;
            done(Step::Renamed);
            io::Result::Ok(())
        })();
        if let Err(why) = renamed {
            let _ = unlinkat(&self.folder, &*temporary, AtFlags::empty());
            return Err(failure(&why));
        }
        self.sync()?;
        done(Step::FolderSynced);
        Ok(())
    }

    /// Creates a new file and locks it; returns it with its name.
    fn temporary(&self) -> Result<(File, String), Failure> {
        let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let flags = create | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let private = Mode::RUSR | Mode::WUSR;
        for _ in 0..TRIES {
            let (pid, n) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let name = format!(".{}.{pid}-{n}{TEMPORARY}", self.name);
            let file = match openat(&self.folder, &*name, flags, private) {
                // An earlier run with our process id left this file behind.
                Err(rustix::io::Errno::EXIST) => continue,
                opened => opened.map_err(system)?,
            };
            // If the filesystem has no locks, another daemon that starts meanwhile could remove the file as
            // left behind.
            let taken = flock(&file, FlockOperation::NonBlockingLockExclusive)
                .is_err_and(|why| why == rustix::io::Errno::WOULDBLOCK);
            // A link count of 0 means that another daemon removed the file before it was locked.
            if !taken && fstat(&file).map_err(system)?.st_nlink > 0 {
                return Ok((file.into(), name));
            }
        }
        Err(Failure::System(Errno::EBUSY))
    }

    /// Returns the whole file, if it exists.
    ///
    /// The directory is synced before the content is returned. The file may stem from a run that was killed
    /// before it had synced the directory, and content that was read once must not be lost later.
    pub(crate) fn read(&self, max: usize) -> Result<Option<Bytes>, Failure> {
        // Without NONBLOCK, opening a pipe would wait for a writer.
        let safe = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.folder, self.name, OFlags::RDONLY | safe, Mode::empty()) {
            Ok(file) => file,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => return Err(Failure::NoFile),
            Err(why) => return Err(system(why)),
        };
        let found = fstat(&file).map_err(system)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(Failure::NoFile);
        }
        let beyond = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
        let mut content = Vec::new();
        let read = File::from(file).take(beyond).read_to_end(&mut content);
        if read.map_err(|why| failure(&why))? > max {
            return Err(Failure::TooLong);
        }
        self.sync()?;
        Ok(Some(content.into()))
    }

    /// Removes the name. If it is a link, its target stays.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        match unlinkat(&self.folder, self.name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => self.sync(),
            Err(rustix::io::Errno::ISDIR) => Err(Failure::NoFile),
            Err(why) => Err(system(why)),
        }
    }

    /// Removes the temporaries that killed daemons left in this directory, of any file.
    pub(super) fn sweep(&self) -> io::Result<()> {
        for entry in Dir::read_from(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let bytes = name.to_bytes();
            if !bytes.starts_with(b".") || !bytes.ends_with(TEMPORARY.as_bytes()) {
                continue;
            }
            let safe = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let Ok(file) = openat(&self.folder, name, OFlags::RDONLY | safe, Mode::empty()) else {
                continue;
            };
            let found = fstat(&file)?;
            let is_file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
            let is_ours = found.st_uid == geteuid().as_raw();
            let lock = || flock(&file, FlockOperation::NonBlockingLockExclusive);
            if is_file && is_ours && lock().is_ok() {
                unlinkat(&self.folder, name, AtFlags::empty())?;
            }
        }
        Ok(())
    }

    /// Syncs the directory to the disk.
    fn sync(&self) -> Result<(), Failure> {
        match fsync(&self.folder) {
            // Some filesystems keep their names without a sync, or cannot be synced.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::ROFS) => Ok(()),
            synced => synced.map_err(system),
        }
    }
}

fn system(why: rustix::io::Errno) -> Failure {
    Failure::System(Errno(why.raw_os_error()))
}

fn failure(why: &io::Error) -> Failure {
    // EIO (5) stands for errors that come from no system call.
    Failure::System(Errno(why.raw_os_error().unwrap_or(5)))
}
