//! Files and inputs of bounded length.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, bail};

/// Reads what has at most `max` bytes; `name` is for errors.
pub(super) fn bytes(from: impl Read, name: &str, max: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let length = from.take(max + 1).read_to_end(&mut bytes).with_context(|| name.to_owned())?;
    if length as u64 > max {
        bail!("{name}: it has more than {max} bytes");
    }
    Ok(bytes)
}

/// Reads a file of at most `max` bytes.
pub(super) fn file(path: &Path, max: u64) -> anyhow::Result<Vec<u8>> {
    let name = path.display().to_string();
    bytes(File::open(path).with_context(|| name.clone())?, &name, max)
}

/// Reads a text file of at most `max` bytes.
pub(super) fn text(path: &Path, max: u64) -> anyhow::Result<String> {
    String::from_utf8(file(path, max)?).with_context(|| path.display().to_string())
}
