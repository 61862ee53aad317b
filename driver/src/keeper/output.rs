//! The output of an instance, on its way to a file.
//!
//! The standard output and error of an instance are one named pipe, which the instance has open for reading,
//! too. So the pipe does not break if the keeper is killed, and the next keeper continues to read it. While
//! no keeper reads, the instance blocks once the pipe is full (64 KiB). An instance that writes faster than
//! the keeper reads blocks, too. The size of the kept output is bounded, and no output is buffered in memory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hax_core::base::time::Instant;
use hax_core::keeper::name::ServiceName;
use rustix::fs::{CWD, Mode, OFlags, fchown, mkfifoat, openat};
use rustix::net::{Shutdown, shutdown};

use crate::exec::child::Credentials;

/// The name of the pipe in an instance's folder.
pub(super) const PIPE: &str = "output";

/// The maximum number of bytes to read in a turn. A pause follows a full turn.
const TURN: usize = 256 << 10;

/// The pause after a full turn; see [`TURN`]. Together they allow 25 MB a second.
const REST: Duration = Duration::from_millis(10);

const PIECE: usize = 64 << 10;

/// The folder of the log files, and the limits of each log.
#[derive(Clone, Debug)]
pub(super) struct Logs {
    pub(super) folder: PathBuf,
    /// The maximum length of a file, in bytes.
    pub(super) max: u64,
    /// The number of older files to keep beside it.
    pub(super) keep: u32,
}

/// Creates the pipe of an instance and gives it to the instance's user. An existing pipe belongs to another
/// instance and is removed first.
pub(super) fn make_pipe(folder: &Path, owner: Option<&Credentials>) -> io::Result<OwnedFd> {
    let path = folder.join(PIPE);
    match fs::remove_file(&path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR)?;
    let pipe = openat(CWD, &path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    if let Some(Credentials { uid, gid, .. }) = owner {
        // Programs that open /dev/stderr need to own the pipe.
        fchown(&pipe, Some(*uid), Some(*gid))?;
    }
    Ok(pipe)
}

/// Opens the instance's end of its pipe once more, for the stop command.
pub(super) fn open_pipe(folder: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(CWD, folder.join(PIPE), flags, Mode::empty())?)
}

/// Opens a stream to journald, as systemd does for its services (`man 8 systemd-journald.service`, "stdout").
pub(super) fn journal(socket: &Path, name: &ServiceName) -> io::Result<OwnedFd> {
    let mut stream = UnixStream::connect(socket)?;
    // The lines are the identifier, the unit, the priority, whether lines have a level prefix, and three
    // forwarding options.
    stream.write_all(format!("{name}\n\n6\n1\n0\n0\n0\n").as_bytes())?;
    shutdown(&stream, Shutdown::Read)?;
    Ok(stream.into())
}

/// A reader of an instance's pipe; see the module.
#[derive(Debug)]
pub(super) struct Output {
    pipe: File,
    log: Log,
    rests_until: Instant,
    taken: usize,
}

/// The result of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    GoesOn,
    /// No process has the pipe open any more, so no output will follow.
    Over,
}

impl Output {
    /// Opens the pipe in an instance's folder for reading.
    pub(super) fn open(folder: &Path, name: &ServiceName, logs: &Logs) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let pipe = openat(CWD, folder.join(PIPE), flags, Mode::empty())?;
        let log = Log::new(logs, name);
        Ok(Self { pipe: File::from(pipe), log, rests_until: Instant::default(), taken: 0 })
    }

    /// Returns the end of the pause, if there is a pause now.
    pub(super) fn rests(&self, now: Instant) -> Option<Instant> {
        (now < self.rests_until).then_some(self.rests_until)
    }

    /// Reads the available output, up to the maximum of a turn.
    pub(super) fn on_ready(&mut self, now: Instant) -> Step {
        let mut piece = [0; PIECE];
        loop {
            match self.pipe.read(&mut piece) {
                Ok(0) => return Step::Over,
                Ok(n) => {
                    self.log.write(&piece[..n]);
                    self.taken += n;
                }
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                    self.taken = 0;
                    return Step::GoesOn;
                }
                Err(_) => return Step::Over,
            }
            if self.taken >= TURN {
                self.taken = 0;
                self.rests_until = now.after(REST);
                return Step::GoesOn;
            }
        }
    }

    /// Reads the rest of the output after the instance has ended. The rest is bounded by the capacity of the
    /// pipe.
    pub(super) fn finish(&mut self) {
        self.taken = 0;
        let _ = self.on_ready(Instant::default());
    }

    /// Returns the number of bytes lost since the last call, because a write failed.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.log.dropped)
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// A log file with rotation.
#[derive(Debug)]
struct Log {
    logs: Logs,
    path: PathBuf,
    /// The open file and its length. `None` before the first write, and after a failed write.
    file: Option<(File, u64)>,
    dropped: u64,
}

impl Log {
    fn new(logs: &Logs, name: &ServiceName) -> Self {
        let path = logs.folder.join(format!("{name}.log"));
        Self { logs: logs.clone(), path, file: None, dropped: 0 }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.try_write(bytes).is_err() {
            self.dropped = self.dropped.saturating_add(bytes.len() as u64);
            self.file = None;
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.as_ref().is_some_and(|(_, length)| *length >= self.logs.max) {
            self.file = None;
            self.rotate()?;
        }
        if self.file.is_none() {
            self.file = Some(self.open()?);
        }
        let (file, length) = self.file.as_mut().expect("it is open now");
        file.write_all(bytes)?;
        *length += bytes.len() as u64;
        Ok(())
    }

    fn open(&self) -> io::Result<(File, u64)> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o640);
        let file = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(&self.path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok((file, found.len()))
    }

    fn rotate(&self) -> io::Result<()> {
        let older = |n: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        if self.logs.keep == 0 {
            return fs::remove_file(&self.path);
        }
        for n in (1..self.logs.keep).rev() {
            match fs::rename(older(n), older(n + 1)) {
                Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
                _ => {}
            }
        }
        fs::rename(&self.path, older(1))
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    fn place(name: &str) -> PathBuf {
        let place = std::env::temp_dir().join(format!("hax-output-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).unwrap();
        place
    }

    fn logs(folder: &Path) -> Logs {
        Logs { folder: folder.to_owned(), max: 1000, keep: 2 }
    }

    fn name() -> ServiceName {
        ServiceName::new("web").unwrap()
    }

    #[test]
    fn so_many_files_of_such_a_length_are_kept_and_the_newest_is_in_the_first() {
        let place = place("rotate");
        let mut log = Log::new(&logs(&place), &name());
        for n in 0..40 {
            log.write(format!("{n:099}\n").as_bytes());
        }
        let mut files: Vec<_> =
            fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        files.sort();
        assert_eq!(files, ["web.log", "web.log.1", "web.log.2"]);
        assert!(fs::read_to_string(place.join("web.log")).unwrap().ends_with("39\n"));
        assert!(fs::metadata(place.join("web.log.1")).unwrap().len() == 1000);
        assert_eq!(log.dropped, 0);
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_what_comes_later_is_written() {
        let place = place("full");
        fs::remove_dir(&place).unwrap();
        let mut log = Log::new(&logs(&place), &name());
        log.write(b"lost");
        assert_eq!(log.dropped, 4);
        fs::create_dir(&place).unwrap();
        log.write(b"kept");
        assert_eq!(fs::read(place.join("web.log")).unwrap(), b"kept");
        // A link in the place of the file is not followed.
        fs::remove_file(place.join("web.log")).unwrap();
        std::os::unix::fs::symlink("elsewhere", place.join("web.log")).unwrap();
        let mut log = Log::new(&logs(&place), &name());
        log.write(b"lost");
        assert!(log.dropped == 4 && !place.join("elsewhere").exists());
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn a_pipe_outlives_its_reader_and_is_over_with_its_last_writer() {
        let place = place("pipe");
        let mut writer = File::from(make_pipe(&place, None).unwrap());
        let mut output = Output::open(&place, &name(), &logs(&place)).unwrap();
        writer.write_all(b"one\n").unwrap();
        assert_eq!(output.on_ready(Instant::default()), Step::GoesOn);
        drop(output);
        // The pipe has no other reader, and the write succeeds nevertheless.
        writer.write_all(b"two\n").unwrap();
        let mut output = Output::open(&place, &name(), &logs(&place)).unwrap();
        drop(writer);
        // Another test may have forked: its child holds the writer until it executes its program.
        poll(&mut [PollFd::new(&output, PollFlags::empty())], None).unwrap();
        output.finish();
        assert_eq!(output.on_ready(Instant::default()), Step::Over);
        assert_eq!(fs::read_to_string(place.join("web.log")).unwrap(), "one\ntwo\n");
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn a_journal_is_told_who_speaks() {
        let place = place("journal");
        let socket = std::os::unix::net::UnixListener::bind(place.join("stdout")).unwrap();
        let mut stream = File::from(journal(&place.join("stdout"), &name()).unwrap());
        stream.write_all(b"line\n").unwrap();
        drop(stream);
        let mut text = String::new();
        socket.accept().unwrap().0.read_to_string(&mut text).unwrap();
        assert_eq!(text, "web\n\n6\n1\n0\n0\n0\nline\n");
        fs::remove_dir_all(place).unwrap();
    }
}
