//! What is found, as files: a tape begins with a line that names its cast.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How a tape begins: so far if it is one of the first cast there was, with the name of its cast if not.
const TAPE: &[u8] = b"haxtape";
/// The cast of the tapes that name none.
pub const FIRST: &str = "bridge";

/// A tape as a file.
#[must_use]
pub fn tape(cast: &str, tape: &[u8]) -> Vec<u8> {
    let name = if cast == FIRST { String::new() } else { format!(" {cast}") };
    [TAPE, name.as_bytes(), b"\n", tape].concat()
}

/// The cast and the decisions of a tape; nothing if it is none.
#[must_use]
pub fn read_tape(file: &[u8]) -> Option<(&str, &[u8])> {
    let rest = file.strip_prefix(TAPE)?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let name = std::str::from_utf8(&rest[..end]).ok()?.trim();
    Some((if name.is_empty() { FIRST } else { name }, &rest[end + 1..]))
}

/// The files that tell of one seed: its tape, and the journal of each machine.
#[must_use]
pub fn files(
    cast: &str,
    seed: u64,
    decisions: &[u8],
    journals: Vec<Vec<u8>>,
) -> Vec<(String, Vec<u8>)> {
    let tape = (format!("{seed}.tape"), tape(cast, decisions));
    let journals = journals.into_iter().enumerate();
    let journals = journals.map(|(i, journal)| (format!("{seed}.{i}.journal"), journal));
    std::iter::once(tape).chain(journals).collect()
}

/// Writes a file below `folder`. Gives its path.
///
/// # Errors
///
/// If it cannot be written.
pub fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    let path = folder.join(name);
    fs::create_dir_all(folder)?;
    fs::write(&path, bytes)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tape_tells_its_cast() {
        assert_eq!(tape(FIRST, b"x"), b"haxtape\nx");
        for cast in [FIRST, "other"] {
            assert_eq!(read_tape(&tape(cast, b"\x01\n")), Some((cast, &b"\x01\n"[..])));
        }
        assert_eq!(read_tape(b"haxjrnl\n"), None);
    }
}
