//! The state that outlives the daemon: the port of [`hax_core::state`], as one file in the folder of
//! `--state-dir`.
//!
//! The file is to survive the death of the daemon, not that of the node, so it is written in place and never
//! synced: a write is a copy into memory, on any filesystem. The writes are made in the loop, since a message
//! must not leave before them.
//!
//! # The file
//!
//! A page with the header, then the slots. A slot has two halves, written in turns, so the last
//! value is there until the next one is complete: a daemon may be killed in the middle of a write. A half is
//! its number (u64), the length of the value (u64), a checksum (u64) and the value. The half with the higher
//! number counts; a value of length 0 is none.
//!
//! A value that cannot be written must not leave an older one behind. The file is removed then, and no state
//! is kept any more.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use hax_core::state::{Command, Slots, VALUE_MAX, checksum};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, ftruncate, mkdirat, openat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::lock::lock;

/// The name of the file.
const NAME: &str = "links";
/// The first bytes of the file, with the version of its form.
const MAGIC: [u8; 16] = *b"hax state 00001\n";
const PAGE: usize = 4096;
/// The number, the length and the checksum of a half.
const HEAD: usize = 24;
/// The size of a half: a value with its head, in whole pages.
const HALF: usize = (VALUE_MAX + HEAD).next_multiple_of(PAGE);
/// The maximum number of slots. The wire has fewer links.
const SLOTS_MAX: u64 = 65_536;

/// The reason why no state is kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call has failed.
    #[error("{}: {why}", path.display())]
    System {
        /// The path of the file or of its folder.
        path: PathBuf,
        /// The system's error.
        why: io::Error,
    },
    /// Another daemon uses the file.
    #[error("{} is used by another hax", .0.display())]
    Used(PathBuf),
    /// The file could be written by somebody else.
    #[error("{} is no file of this user alone; remove it", .0.display())]
    NotOurs(PathBuf),
}

/// The file. It is locked as long as this value lives.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    folder: OwnedFd,
    /// `None` once something could not be written.
    file: Option<File>,
    /// The number of each slot's last half.
    numbers: Vec<u64>,
    /// The half being written.
    buffer: Vec<u8>,
}

/// The first page of the file: the magic, and which file it is. A copy of the file is another file, and older
/// than what its links have done since.
struct Header([u8; 32]);

impl Header {
    fn of(found: &Stat) -> Self {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&MAGIC);
        bytes[16..24].copy_from_slice(&found.st_dev.to_le_bytes());
        bytes[24..].copy_from_slice(&found.st_ino.to_le_bytes());
        Self(bytes)
    }
}

impl StateFile {
    /// Opens the file in this folder, or creates it; returns it with the values that the last life left
    /// behind. Symbolic links are not followed.
    ///
    /// # Errors
    ///
    /// If there is no such folder, the file is another's, or another daemon uses it.
    pub fn open(folder: &Path) -> Result<(Self, Slots), Error> {
        let path = folder.join(NAME);
        let system = |path: &Path, why: Errno| Error::System { path: path.into(), why: why.into() };
        match mkdirat(CWD, folder, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(why) => return Err(system(folder, why)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(CWD, folder, flags, Mode::empty());
        let folder = opened.map_err(|why| system(folder, why))?;
        let safe = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let flags = OFlags::RDWR | OFlags::CREATE | safe;
        let file = match openat(&folder, NAME, flags, Mode::RUSR | Mode::WUSR) {
            Err(Errno::LOOP | Errno::NXIO | Errno::ISDIR) => return Err(Error::NotOurs(path)),
            opened => opened.map_err(|why| system(&path, why))?,
        };
        match lock(&file) {
            Err(Errno::WOULDBLOCK) => return Err(Error::Used(path)),
            locked => locked.map_err(|why| system(&path, why))?,
        }
        let found = fstat(&file).map_err(|why| system(&path, why))?;
        let regular = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
        let private = found.st_uid == geteuid().as_raw() && found.st_mode & 0o077 == 0;
        if !regular || !private || found.st_nlink != 1 {
            return Err(Error::NotOurs(path));
        }
        let (file, header) = (File::from(file), Header::of(&found));
        let mut this =
            Self { path, folder, file: Some(file), numbers: Vec::new(), buffer: Vec::new() };
        let slots =
            this.begin(&header).map_err(|why| Error::System { path: this.path.clone(), why });
        slots.map(|slots| (this, slots))
    }

    /// Reads what there is, or begins anew.
    fn begin(&mut self, header: &Header) -> io::Result<Slots> {
        let Some(file) = &self.file else { return Ok(Slots::new()) };
        let mut first = [0; 32];
        let read = file.read_at(&mut first, 0)?;
        if read == first.len() && first == header.0 {
            return self.read();
        }
        if read > 0 {
            let path = self.path.display();
            tracing::warn!(
                target: "hax",
                "{path} is of another version of hax, or a copy: links of the last life are lost"
            );
        }
        ftruncate(file, 0)?;
        file.write_all_at(&header.0, 0)?;
        Ok(Slots::new())
    }

    fn read(&mut self) -> io::Result<Slots> {
        let Some(file) = &self.file else { return Ok(Slots::new()) };
        let slots = file.metadata()?.len().saturating_sub(PAGE as u64).div_ceil(2 * HALF as u64);
        let mut found = Slots::new();
        for slot in 0..u32::try_from(slots.min(SLOTS_MAX)).unwrap_or(0) {
            let halves = [read_half(file, slot, 0)?, read_half(file, slot, 1)?];
            let damaged = halves.contains(&Half::Damaged);
            let whole = halves.into_iter().filter_map(Half::whole);
            let (number, value) = whole.max_by_key(|(number, _)| *number).unwrap_or_default();
            self.numbers.push(number);
            // A slot without any complete half is passed on, so that the loss is said.
            if !value.is_empty() || number == 0 && damaged {
                found.push((slot, value));
            }
        }
        Ok(found)
    }

    /// Carries out a command.
    pub fn execute(&mut self, command: &Command) {
        let (slot, value) = match command {
            Command::Keep { slot, value } => (*slot, &value[..]),
            Command::Empty { slot } => (*slot, &[][..]),
        };
        if let Err(why) = self.write(slot, value) {
            tracing::warn!(
                target: "hax", path = %self.path.display(), %why,
                "links do not outlive hax any more: their state cannot be written"
            );
            self.remove();
        }
    }

    fn write(&mut self, slot: u32, value: &[u8]) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if u64::from(slot) >= SLOTS_MAX || value.len() > VALUE_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let place = slot as usize;
        if self.numbers.len() <= place {
            self.numbers.resize(place + 1, 0);
        }
        let number = &mut self.numbers[place];
        *number += 1;
        self.buffer.clear();
        let length = value.len() as u64;
        for word in [*number, length, sum(*number, value)] {
            self.buffer.extend_from_slice(&word.to_le_bytes());
        }
        self.buffer.extend_from_slice(value);
        file.write_all_at(&self.buffer, place_of(slot, *number))
    }

    /// Removes the file, so that no later life reads it.
    fn remove(&mut self) {
        if self.file.take().is_some() {
            let _ = unlinkat(&self.folder, NAME, AtFlags::empty());
        }
    }
}

/// Returns the half of a slot with this number, or the other one of two numbers in sequence.
fn place_of(slot: u32, number: u64) -> u64 {
    let halves = u64::from(slot) * 2 + number % 2;
    PAGE as u64 + halves * HALF as u64
}

/// What a half has.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Half {
    /// It was never written.
    Blank,
    /// Its write was not completed, or something else wrote there.
    Damaged,
    /// A number and a value.
    Whole(u64, Bytes),
}

impl Half {
    fn whole(self) -> Option<(u64, Bytes)> {
        match self {
            Self::Whole(number, value) => Some((number, value)),
            Self::Blank | Self::Damaged => None,
        }
    }
}

fn read_half(file: &File, slot: u32, half: u64) -> io::Result<Half> {
    let at = place_of(slot, half);
    let mut head = [0; HEAD];
    // The file ends after the last half that was written.
    let read = file.read_at(&mut head, at)?;
    if head == [0; HEAD] {
        return Ok(Half::Blank);
    }
    let (words, _) = head.as_chunks::<8>();
    let [number, length, expected] = [0, 1, 2].map(|place| u64::from_le_bytes(words[place]));
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if read < HEAD || length > VALUE_MAX || number % 2 != half {
        return Ok(Half::Damaged);
    }
    let mut value = vec![0; length];
    match file.read_exact_at(&mut value, at + HEAD as u64) {
        Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => return Ok(Half::Damaged),
        read => read?,
    }
    let fits = sum(number, &value) == expected;
    Ok(if fits { Half::Whole(number, value.into()) } else { Half::Damaged })
}

/// Returns the checksum of a half. An unwritten half has another one.
fn sum(number: u64, value: &[u8]) -> u64 {
    checksum(value) ^ checksum(&number.to_le_bytes())
}

/// Returns the id of the node's boot, if the system has one.
pub fn boot_id() -> Option<u128> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    u128::from_str_radix(&digits, 16).ok()
}
