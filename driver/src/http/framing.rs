//! The decoder of a request's body from the bytes after its head.

use std::borrow::Cow;
use std::io;

use super::head::Length;

/// The maximum number of digits of a chunk's size, including leading zeros: 64 bits.
const DIGITS_MAX: u8 = 16;

/// The maximum number of chunks that are decoded in one turn.
const CHUNKS_MAX: usize = 64;

/// The maximum total length of the text after chunk sizes, including blanks. It has no use; more of it is an
/// attack.
const EXTENSIONS_MAX: usize = 16 << 10;

/// The maximum length of the trailers, in bytes.
const TRAILERS_MAX: usize = 16 << 10;

/// The decoder of an arriving body.
#[derive(Debug)]
pub(super) struct Decoder {
    state: State,
    /// The number of digits read of the current chunk's size.
    digits: u8,
    extensions: usize,
    trailers: usize,
}

/// The expected next part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// This number of bytes, and nothing after them.
    Known(u64),
    /// The first digit of a chunk's size.
    Start,
    /// More digits of the size.
    Size(u64),
    /// Blanks after the size.
    Blank(u64),
    /// A chunk extension.
    Extension(u64),
    /// The end of the size's line.
    SizeEnd(u64),
    /// The data of the chunk.
    Data(u64),
    /// The end of the chunk.
    DataCr,
    DataLf,
    /// The end of the body, or a trailer.
    Last,
    LastLf,
    Trailer,
    TrailerLf,
    Done,
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Decoder {
    pub(super) fn new(length: Length) -> Self {
        let state = match length {
            Length::Known(0) => State::Done,
            Length::Known(length) => State::Known(length),
            Length::Chunked => State::Start,
        };
        Self { state, digits: 0, extensions: 0, trailers: 0 }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Decodes as much of `bytes` as fits in one turn; returns the number of consumed bytes and their data,
    /// joined if it is in several chunks. Nothing is consumed after the end.
    pub(super) fn decode_some<'a>(
        &mut self,
        bytes: &'a [u8],
    ) -> io::Result<(usize, Cow<'a, [u8]>)> {
        let (mut at, first) = self.take(bytes)?;
        let mut data = Cow::Borrowed(&bytes[first]);
        for _ in 1..CHUNKS_MAX {
            if at == bytes.len() || self.is_done() {
                break;
            }
            let (taken, range) = self.take(&bytes[at..])?;
            let more = &bytes[at..][range];
            if data.is_empty() {
                data = Cow::Borrowed(more);
            } else if !more.is_empty() {
                data.to_mut().extend_from_slice(more);
            }
            at += taken;
        }
        Ok((at, data))
    }

    /// Decodes a prefix of `bytes`; returns the number of consumed bytes and the range of the data in it.
    /// There is at most one such range for each call; nothing is consumed after the end.
    fn take(&mut self, bytes: &[u8]) -> io::Result<(usize, std::ops::Range<usize>)> {
        let mut at = 0;
        while at < bytes.len() {
            match self.state {
                State::Done => break,
                State::Known(left) | State::Data(left) => {
                    let here = bytes.len() - at;
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(here);
                    let left = left - n as u64;
                    self.state = match self.state {
                        State::Known(_) if left == 0 => State::Done,
                        State::Known(_) => State::Known(left),
                        _ if left == 0 => State::DataCr,
                        _ => State::Data(left),
                    };
                    return Ok((at + n, at..at + n));
                }
                state => self.state = self.step(state, bytes[at])?,
            }
            at += 1;
        }
        Ok((at, 0..0))
    }

    /// Counts one byte of text after a size.
    fn count_extension(&mut self) -> io::Result<()> {
        self.extensions += 1;
        let is_too_much = self.extensions >= EXTENSIONS_MAX;
        if is_too_much { Err(bad("too much is said of chunks")) } else { Ok(()) }
    }

    /// Decodes one byte of the framing around chunks.
    fn step(&mut self, state: State, byte: u8) -> io::Result<State> {
        Ok(match (state, byte) {
            (State::Start, _) => {
                self.digits = 1;
                State::Size(digit(0, byte)?)
            }
            (State::Size(size) | State::Blank(size), b' ' | b'\t') => {
                self.count_extension()?;
                State::Blank(size)
            }
            (State::Size(size) | State::Blank(size), b';') => State::Extension(size),
            (State::Size(size) | State::Blank(size) | State::Extension(size), b'\r') => {
                State::SizeEnd(size)
            }
            (State::Size(_), _) if self.digits >= DIGITS_MAX => {
                return Err(bad("too long a size of a chunk"));
            }
            (State::Size(size), _) => {
                self.digits += 1;
                State::Size(digit(size, byte)?)
            }
            (State::Extension(_), b'\n') => return Err(bad("a bare line feed")),
            (State::Extension(size), _) => {
                self.count_extension()?;
                State::Extension(size)
            }
            (State::SizeEnd(0), b'\n') => State::Last,
            (State::SizeEnd(size), b'\n') => State::Data(size),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Start,
            (State::Last, b'\r') => State::LastLf,
            (State::LastLf, b'\n') => State::Done,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::Last,
            (State::Last | State::Trailer, b'\n') => return Err(bad("a bare line feed")),
            (State::Last | State::Trailer, _) => {
                self.trailers += 1;
                if self.trailers >= TRAILERS_MAX {
                    return Err(bad("too long trailers"));
                }
                State::Trailer
            }
            _ => return Err(bad("not as chunks are")),
        })
    }
}

fn digit(size: u64, byte: u8) -> io::Result<u64> {
    let digit = char::from(byte).to_digit(16).ok_or_else(|| bad("no size of a chunk"))?;
    let size = size.checked_mul(16).and_then(|size| size.checked_add(u64::from(digit)));
    size.ok_or_else(|| bad("a chunk beyond 64 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the data of a body, the bytes after it, and whether it is complete, decoded `step` bytes at a
    /// time.
    fn decode(length: Length, text: &[u8], step: usize) -> io::Result<(Vec<u8>, Vec<u8>, bool)> {
        let (mut decoder, mut data, mut buffer) = (Decoder::new(length), Vec::new(), Vec::new());
        for part in text.chunks(step) {
            buffer.extend_from_slice(part);
            loop {
                let (taken, more) = decoder.decode_some(&buffer)?;
                data.extend_from_slice(&more);
                buffer.drain(..taken);
                if taken == 0 {
                    break;
                }
            }
        }
        Ok((data, buffer, decoder.is_done()))
    }

    #[test]
    fn bodies_end_where_they_say() {
        let chunked = b"2\r\nab\r\nA ;x=y\r\n0123456789\r\n0\r\nT: v\r\n\r\nrest";
        for step in [1, 2, 3, 7, 100] {
            let (data, rest, done) = decode(Length::Chunked, chunked, step).unwrap();
            assert_eq!((&*data, &*rest, done), (&b"ab0123456789"[..], &b"rest"[..], true));
            let (data, rest, done) = decode(Length::Known(3), b"abcd", step).unwrap();
            assert_eq!((&*data, &*rest, done), (&b"abc"[..], &b"d"[..], true));
        }
        let (_, _, done) = decode(Length::Known(5), b"abcd", 2).unwrap();
        assert!(!done);
    }

    #[test]
    fn what_are_no_chunks_is_refused() {
        let long = [b"1;".to_vec(), vec![b'x'; EXTENSIONS_MAX]].concat();
        let blank = [b"1".to_vec(), vec![b' '; EXTENSIONS_MAX]].concat();
        let trailer = [b"0\r\n".to_vec(), vec![b'x'; TRAILERS_MAX + 1]].concat();
        for bad in [
            &b"x"[..],
            b"\r\n",
            b"1\n",
            b"1 2\r\n",
            b"1;a\nb",
            b"1\r\nabc",
            b"11111111111111111\r\n",
            b"0\r\n\rx",
            b"0\r\nX: y\n\r\n",
            b"0\r\n\n",
            b"00000000000000001\r\nx\r\n0\r\n\r\n",
            &long,
            &blank,
            &trailer,
        ] {
            assert!(decode(Length::Chunked, bad, 5).is_err(), "{bad:?}");
        }
    }
}
