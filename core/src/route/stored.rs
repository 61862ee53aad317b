//! The file of the redundancy nodes: a header line, and then one line for each node, all in JSON.
//!
//! The header contains the format version, the number of lines that follow, and the CRC-32 of everything
//! after the header. A file that has another version or is damaged is refused and stays unchanged: incomplete
//! knowledge must not move routes.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::node::{Index, Mode, Node};
use super::parameters;
use super::provider::Provider;
use super::table::Table;

/// The format version.
const VERSION: u32 = 1;

/// The maximum size of a file that is read, in bytes.
pub const MAX: usize = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Header {
    hax_route: u32,
    nodes: usize,
    crc32: u32,
}

/// The header fields that every version has.
#[derive(Deserialize)]
struct AnyHeader {
    hax_route: u32,
}

/// One node as it is stored and shown.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    index: Index,
    provider: Provider,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    #[serde(borrow)]
    parameters: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

/// The reason why a file is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The file has another format version.
    Version(u32),
    /// The file is damaged, or is not a file of redundancy nodes.
    Damaged(Box<str>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => {
                write!(f, "it is of version {version}, and this hax knows version {VERSION}")
            }
            Self::Damaged(why) => write!(f, "it is damaged: {why}"),
        }
    }
}

/// Returns one node as a line of JSON.
#[must_use]
pub fn line(index: Index, node: &Node) -> String {
    let line = Line {
        index,
        provider: node.provider,
        mode: node.mode,
        parameters: node.parameters.iter().map(|(n, v)| ((*n).into(), (&**v).into())).collect(),
    };
    // The line contains only text and numbers, so it can always be serialized.
    serde_json::to_string(&line).unwrap_or_default()
}

/// Returns the content of the whole file.
#[must_use]
pub fn write(table: &Table) -> Vec<u8> {
    let mut lines = String::new();
    for (index, node) in table.iter() {
        lines.push_str(&line(index, node));
        lines.push('\n');
    }
    let header = Header { hax_route: VERSION, nodes: table.len(), crc32: crc32(lines.as_bytes()) };
    let header = serde_json::to_string(&header).unwrap_or_default();
    format!("{header}\n{lines}").into_bytes()
}

/// Parses the content of a file.
///
/// # Errors
///
/// The content was not written by [`write()`] of this version.
pub fn read(file: &[u8]) -> Result<Table, Refusal> {
    let damaged = |why: &str| Refusal::Damaged(why.into());
    let end = file.iter().position(|byte| *byte == b'\n');
    let (header, lines) = file.split_at(end.ok_or_else(|| damaged("its first line has no end"))?);
    let lines = &lines[1..];
    let any: AnyHeader =
        serde_json::from_slice(header).map_err(|_| damaged("its first line is no header"))?;
    if any.hax_route != VERSION {
        return Err(Refusal::Version(any.hax_route));
    }
    let header: Header =
        serde_json::from_slice(header).map_err(|_| damaged("its first line is no header"))?;
    if crc32(lines) != header.crc32 {
        return Err(damaged("its checksum is another one"));
    }
    let mut table = Table::default();
    for (nth, text) in lines.split(|byte| *byte == b'\n').enumerate() {
        if text.is_empty() {
            continue;
        }
        let (index, node) =
            read_line(text).map_err(|why| damaged(&format!("line {}: {why}", nth + 2)))?;
        table.put(index, node);
    }
    if table.len() != header.nodes {
        return Err(damaged(&format!("it has {} nodes of {}", table.len(), header.nodes)));
    }
    Ok(table)
}

fn read_line(text: &[u8]) -> Result<(Index, Node), String> {
    let line: Line<'_> = serde_json::from_slice(text).map_err(|why| format!("{why}"))?;
    let mut node = Node { mode: line.mode, ..Node::new(line.provider) };
    for (name, value) in &line.parameters {
        let parameter = parameters::named(line.provider, name).ok_or("no such parameter")?;
        parameter.set(&mut node.parameters, value)?;
    }
    Ok((line.index, node))
}

/// Returns the CRC-32 of IEEE 802.3, reflected.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::super::request::Set;
    use super::*;

    fn sample() -> Table {
        let mut table = Table::default();
        for (number, name) in [(1, "plain"), (1023, "with \"quotes\" and spaces\u{e9}")] {
            let given = [("-t", name), ("-r", "192.0.2.0/24"), ("-n", "10.0.0.2")];
            let set = Set {
                provider: Some(Provider::Consul),
                mode: (number == 1).then_some(Mode::Primary),
                parameters: given.map(|(flag, value)| (flag.into(), value.into())).into(),
            };
            table.create(Index::new(number).unwrap(), &set, None).unwrap();
        }
        table
    }

    #[test]
    fn a_checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn r19_the_file_leads_back_to_the_nodes() {
        for table in [Table::default(), sample()] {
            assert_eq!(read(&write(&table)), Ok(table));
        }
    }

    #[test]
    fn r19_a_file_that_ends_anywhere_or_has_any_byte_changed_is_refused() {
        let file = write(&sample());
        for end in 0..file.len() {
            assert!(read(&file[..end]).is_err(), "cut at {end}");
        }
        for at in 0..file.len() {
            let mut file = file.clone();
            file[at] ^= 0x20;
            // Only a change in the header's spelling can leave the content the same.
            if let Ok(table) = read(&file) {
                assert_eq!(table, sample(), "byte {at}");
            }
        }
    }

    #[test]
    fn a_file_of_another_version_is_told_from_a_damaged_one() {
        let newer = b"{\"hax_route\":2,\"something\":[]}\nwhatever\n";
        assert_eq!(read(newer), Err(Refusal::Version(2)));
        assert!(matches!(read(b"{'index': 1}\n"), Err(Refusal::Damaged(_))));
        assert!(matches!(read(b""), Err(Refusal::Damaged(_))));
    }
}
