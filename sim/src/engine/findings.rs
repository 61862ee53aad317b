//! The findings as files: tapes and journals. The file begins with a line that names its cast, unless it
//! belongs to the original cast.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The beginning of a tape.
const TAPE: &[u8] = b"haxtape\n";
/// The beginning of the line with the name of a cast.
const CAST: &[u8] = b"haxcast ";
/// The cast of the files without such a line.
pub const FIRST: &str = "bridge";

/// Builds a file of this cast with this content.
#[must_use]
pub fn of(cast: &str, content: &[u8]) -> Vec<u8> {
    let line = if cast == FIRST { Vec::new() } else { [CAST, cast.as_bytes(), b"\n"].concat() };
    [&line, content].concat()
}

/// Splits a file into its cast and its content.
#[must_use]
pub fn cast(file: &[u8]) -> (&str, &[u8]) {
    let named = file.strip_prefix(CAST).and_then(|rest| {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        Some((std::str::from_utf8(&rest[..end]).ok()?, &rest[end + 1..]))
    });
    named.unwrap_or((FIRST, file))
}

/// Builds the content of a file with these decisions.
#[must_use]
pub fn tape(decisions: &[u8]) -> Vec<u8> {
    [TAPE, decisions].concat()
}

/// Returns the decisions in the content of a file, or none if it is not a tape.
#[must_use]
pub fn decisions(content: &[u8]) -> Option<&[u8]> {
    content.strip_prefix(TAPE)
}

/// Builds the files of one seed: its tape, and the journal of each machine.
#[must_use]
pub fn files(
    name: &str,
    seed: u64,
    decisions: &[u8],
    journals: Vec<Vec<u8>>,
) -> Vec<(String, Vec<u8>)> {
    let tape = (format!("{seed}.tape"), of(name, &tape(decisions)));
    let journals = journals.into_iter().enumerate();
    let journals = journals.map(|(i, journal)| (format!("{seed}.{i}.journal"), of(name, &journal)));
    std::iter::once(tape).chain(journals).collect()
}

/// Writes a file below `folder`. Returns its path.
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
    fn a_file_tells_its_cast() {
        assert_eq!(of(FIRST, &tape(b"x")), b"haxtape\nx");
        for name in [FIRST, "other"] {
            let file = of(name, &tape(b"\x01\n"));
            let (found, content) = cast(&file);
            assert_eq!((found, decisions(content)), (name, Some(&b"\x01\n"[..])));
        }
        assert_eq!(decisions(b"haxjrnl\n"), None);
    }
}
