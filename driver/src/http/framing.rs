//! A request's body, taken out of the bytes that follow its head.

use std::borrow::Cow;
use std::io;

use super::head::Length;

/// The most digits of a chunk's size, leading zeros too: 64 bits.
const DIGITS_MAX: u8 = 16;

/// The most chunks that are worked in one turn.
const CHUNKS_MAX: usize = 64;

/// What is said after the size of chunks, blanks too, is no use to anybody; more of it in all is an attack.
const EXTENSIONS_MAX: usize = 16 << 10;

/// The most bytes of trailers.
const TRAILERS_MAX: usize = 16 << 10;

/// A body that arrives.
#[derive(Debug)]
pub(super) struct Decoder {
    state: State,
    /// Of the size that is read.
    digits: u8,
    extensions: usize,
    trailers: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes, and nothing after them.
    Known(u64),
    /// The first digit of a chunk's size.
    Start,
    /// More of the size.
    Size(u64),
    /// Blanks after it.
    Blank(u64),
    /// What else is said of the chunk.
    Extension(u64),
    /// The end of that line.
    SizeEnd(u64),
    /// The chunk.
    Data(u64),
    /// Its end.
    DataCr,
    DataLf,
    /// The end of all, or a trailer.
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

    /// Takes from `bytes` what is work enough for one turn: how many, and their data, be it in many chunks.
    /// Nothing is taken when it is done.
    pub(super) fn take_some<'a>(&mut self, bytes: &'a [u8]) -> io::Result<(usize, Cow<'a, [u8]>)> {
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

    /// Takes what it can from the beginning of `bytes`: how many, and the range of them that is data.
    /// There is at most one such range a call; nothing is taken when it is done.
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

    /// One byte more of what is no size.
    fn say_more(&mut self) -> io::Result<()> {
        self.extensions += 1;
        let is_too_much = self.extensions >= EXTENSIONS_MAX;
        if is_too_much { Err(bad("too much is said of chunks")) } else { Ok(()) }
    }

    /// One byte of what is around the chunks.
    fn step(&mut self, state: State, byte: u8) -> io::Result<State> {
        Ok(match (state, byte) {
            (State::Start, _) => {
                self.digits = 1;
                State::Size(digit(0, byte)?)
            }
            (State::Size(size) | State::Blank(size), b' ' | b'\t') => {
                self.say_more()?;
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
                self.say_more()?;
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

    /// The data of a body, what follows it, and whether it is done, fed `step` bytes at a time.
    fn decode(length: Length, text: &[u8], step: usize) -> io::Result<(Vec<u8>, Vec<u8>, bool)> {
        let (mut decoder, mut data, mut buffer) = (Decoder::new(length), Vec::new(), Vec::new());
        for part in text.chunks(step) {
            buffer.extend_from_slice(part);
            loop {
                let (taken, more) = decoder.take_some(&buffer)?;
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
