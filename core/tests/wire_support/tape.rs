//! Reads the tapes of `tests/vectors`.

use std::path::PathBuf;

/// One direction of one TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The port of the connection at the writer's side.
    pub from: u16,
    /// The port of the connection at the reader's side.
    pub to: u16,
    /// The listening port of the writer.
    pub writer: u16,
    /// The listening port of the reader.
    pub reader: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Begins(Stream),
    Data(Vec<u8>),
    Ends,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub at_us: u64,
    pub stream: usize,
    pub what: What,
}

pub fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir())
        .unwrap()
        .filter_map(|e| e.unwrap().file_name().to_str()?.strip_suffix(".tape").map(str::to_owned))
        .collect();
    names.sort();
    names
}

pub fn read(name: &str) -> Vec<Record> {
    let raw = std::fs::read(dir().join(format!("{name}.tape"))).unwrap();
    let mut from = raw.strip_prefix(b"HXT1").expect("a tape");
    let (mut at_us, mut records) = (0, Vec::new());
    while !from.is_empty() {
        at_us += varint(&mut from);
        let stream = varint(&mut from) as usize;
        let what = match byte(&mut from) {
            0 => What::Begins(Stream {
                from: u16(&mut from),
                to: u16(&mut from),
                writer: u16(&mut from),
                reader: u16(&mut from),
            }),
            1 => What::Data(data(&mut from)),
            2 => What::Ends,
            kind => panic!("record of kind {kind}"),
        };
        records.push(Record { at_us, stream, what });
    }
    records
}

/// Returns all streams of a tape, each as a whole.
pub fn streams(name: &str) -> Vec<(Stream, Vec<u8>)> {
    let mut streams: Vec<(Stream, Vec<u8>)> = Vec::new();
    for record in read(name) {
        match record.what {
            What::Begins(stream) => streams.push((stream, Vec::new())),
            What::Data(data) => streams[record.stream].1.extend(data),
            What::Ends => {}
        }
    }
    streams
}

fn dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn byte(from: &mut &[u8]) -> u8 {
    let (first, rest) = from.split_first().unwrap();
    *from = rest;
    *first
}

fn u16(from: &mut &[u8]) -> u16 {
    u16::from_le_bytes([byte(from), byte(from)])
}

fn varint(from: &mut &[u8]) -> u64 {
    let mut n = 0;
    for shift in (0..).step_by(7) {
        let b = byte(from);
        n |= u64::from(b & 127) << shift;
        if b < 128 {
            break;
        }
    }
    n
}

fn data(from: &mut &[u8]) -> Vec<u8> {
    let length = varint(from) as usize;
    let mut out = Vec::with_capacity(length);
    while out.len() < length {
        match byte(from) {
            0 => out.resize(out.len() + varint(from) as usize, 0),
            b => out.push(b),
        }
    }
    assert_eq!(out.len(), length);
    out
}
