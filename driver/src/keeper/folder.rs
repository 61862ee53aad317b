//! The keeper's folder: the number of the keeper's run, and one folder of files for each instance.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hax_core::base::errno::Errno;
use hax_core::file::{Failure, PRIVATE};
use hax_core::keeper::name::InstanceId;
use hax_core::keeper::record::{Found, RecordFile};

use super::processes;
use crate::file::whole::Target;
use crate::folder::{self, FolderError};

/// The name of the folder for the folders of the instances.
const INSTANCES: &str = "instances";

/// The name of the file with the number of the keeper's run.
pub const GENERATION: &str = "generation";

/// The name of an instance's file with the path of its cgroup. Only the host reads and writes it.
const CGROUP: &str = "cgroup";

/// The permission bits for writing by the group and by others.
const WRITABLE: u32 = 0o022;

/// The maximum size of a record, in bytes. A record is shorter than the frame that it was made from together
/// with what is added to it.
const RECORD_MAX: usize = 1 << 20;

/// A locked folder; see the module. The next keeper can lock it when this value is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: OwnedFd,
}

/// An instance left behind by earlier runs of the keeper.
pub(super) struct Left {
    pub(super) instance: InstanceId,
    pub(super) found: Found,
    pub(super) cgroup: Option<PathBuf>,
}

impl Folder {
    /// Locks the folder. With `shared`, the folder's group may enter it.
    pub(super) fn take(path: &Path, shared: bool) -> Result<Self, FolderError> {
        let mode = if shared { 0o750 } else { 0o700 };
        let lock = folder::take(path, mode, WRITABLE)?;
        let system = |why: io::Error| FolderError::System(path.to_owned(), why);
        let path = path.canonicalize().map_err(system)?;
        folder::make(&path.join(INSTANCES), 0o700).map_err(system)?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes and returns the number of this run. It is one more than the number of the last run.
    pub(super) fn next_generation(&self) -> io::Result<u64> {
        let path = self.path.join(GENERATION);
        let last = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|why| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()))
            })?,
            Err(why) if why.kind() == io::ErrorKind::NotFound => 0_u64,
            Err(why) => return Err(why),
        };
        let next = last + 1;
        write(&path, next.to_string().as_bytes()).map_err(|why| os_error(why, &path))?;
        Ok(next)
    }

    /// Returns the folder of an instance.
    pub(super) fn of(&self, instance: &InstanceId) -> PathBuf {
        self.path.join(INSTANCES).join(instance.as_str())
    }

    /// Writes a file of an instance. An intent is synced to the disk before this function returns.
    pub(super) fn write(
        &self,
        instance: &InstanceId,
        file: RecordFile,
        body: &[u8],
    ) -> Result<(), Errno> {
        let folder = self.of(instance);
        match file {
            RecordFile::Intent => {
                let made = fs::DirBuilder::new().mode(0o700).create(&folder);
                let synced = made.and_then(|()| File::open(self.path.join(INSTANCES))?.sync_all());
                synced.map_err(|why| Errno(why.raw_os_error().unwrap_or_default()))?;
            }
            RecordFile::Deadline => return write_deadline(&folder.join(file.name()), body),
            RecordFile::Process | RecordFile::Stop | RecordFile::Ended => {
                return replace(&folder, file, body);
            }
        }
        write(&folder.join(file.name()), body)
    }

    /// Creates the file for the identity of an instance's process. The instance itself writes it.
    pub(super) fn process_file(&self, instance: &InstanceId) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(self.of(instance).join(RecordFile::Process.name()))
    }

    /// Records the path of an instance's cgroup.
    pub(super) fn write_cgroup(&self, instance: &InstanceId, path: &Path) -> io::Result<()> {
        fs::write(self.of(instance).join(CGROUP), path.as_os_str().as_encoded_bytes())
    }

    /// Removes all files of an instance, the intent first. If this is interrupted, the next run removes the
    /// rest, since it removes every instance without an intent.
    pub(super) fn remove(&self, instance: &InstanceId) {
        let folder = self.of(instance);
        let _ = fs::remove_file(folder.join(RecordFile::Intent.name()));
        match fs::remove_dir_all(&folder) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(target: "hax", %instance, %why, "the folder of an instance stays");
            }
            _ => {}
        }
    }

    /// Returns all instances left behind by earlier runs. An instance without an intent was never started,
    /// and is removed.
    pub(super) fn left(&self) -> io::Result<Vec<Left>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(self.path.join(INSTANCES))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(instance) = InstanceId::new(name) else {
                tracing::warn!(target: "hax", path = %path.display(), "this is no instance's");
                continue;
            };
            match read(&path, RecordFile::Intent) {
                Some(intent) => all.push(self.look(instance, &path, intent)),
                None => self.remove(&instance),
            }
        }
        all.sort_by(|a, b| a.instance.cmp(&b.instance));
        Ok(all)
    }

    fn look(&self, instance: InstanceId, path: &Path, intent: Vec<u8>) -> Left {
        let mut found = Found {
            path: path.to_string_lossy().into(),
            intent,
            process: read(path, RecordFile::Process),
            deadline: read(path, RecordFile::Deadline),
            stop: read(path, RecordFile::Stop),
            ended: read(path, RecordFile::Ended),
            now: None,
            left: false,
        };
        found.now = found.process().and_then(|process| processes::stat(process.pid));
        let cgroup = fs::read_to_string(path.join(CGROUP)).ok().map(PathBuf::from);
        Left { instance, found, cgroup }
    }
}

fn read(folder: &Path, file: RecordFile) -> Option<Vec<u8>> {
    let path = folder.join(file.name());
    let found = fs::metadata(&path).ok()?;
    let fits = usize::try_from(found.len()).is_ok_and(|length| length <= RECORD_MAX);
    if fits { fs::read(path).ok() } else { Some(Vec::new()) }
}

fn write(path: &Path, body: &[u8]) -> Result<(), Errno> {
    let path = path.to_str().ok_or(Errno(84))?;
    let written = Target::open(path).and_then(|place| place.write(PRIVATE, body, |_| {}));
    written.map_err(|why| match why {
        Failure::System(errno) => errno,
        // EINVAL.
        Failure::Malformed | Failure::NoFile | Failure::TooLong => Errno(22),
    })
}

/// Replaces a file without a sync to the disk. A file that is written after the start has to outlive the
/// keeper, but not this boot: the processes that it describes do not outlive the boot either.
fn replace(folder: &Path, file: RecordFile, body: &[u8]) -> Result<(), Errno> {
    let (path, new) = (folder.join(file.name()), folder.join(format!(".{}.new", file.name())));
    let mut options = OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(&new);
    let written = opened.and_then(|mut file| file.write_all(body));
    let renamed = written.and_then(|()| fs::rename(new, path));
    renamed.map_err(|why| Errno(why.raw_os_error().unwrap_or_default()))
}

/// Writes a deadline without a sync to the disk, since it is of use only during this boot. It overwrites the
/// last deadline in one write, and all deadlines have the same length. So no reader sees half of a deadline.
fn write_deadline(path: &Path, body: &[u8]) -> Result<(), Errno> {
    let text = format!("{:0>20}\n", String::from_utf8_lossy(body));
    let mut options = OpenOptions::new();
    let opened = options.write(true).create(true).truncate(false).mode(0o600).open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|why| Errno(why.raw_os_error().unwrap_or_default()))
}

fn os_error(Errno(number): Errno, path: &Path) -> io::Error {
    let why = io::Error::from_raw_os_error(number);
    io::Error::new(why.kind(), format!("{}: {why}", path.display()))
}
