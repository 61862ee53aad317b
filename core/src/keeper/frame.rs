//! Frames of the keeper's socket: a length of four bytes, the highest first, and so many bytes of JSON.

use alloc::vec::Vec;
use core::fmt;

use super::request::{self, Malformed, Request};

/// The bytes of a length.
pub const LENGTH: usize = 4;

/// The longest body that the keeper accepts, in bytes. Linux passes no more than 128 KiB in one word to a program.
pub const BODY_MAX: usize = 256 << 10;

/// The longest body that the keeper sends, in bytes: a page of [`PAGE`](super::PAGE) instances fits well.
pub const ANSWER_MAX: usize = 1 << 20;

/// A frame announces more than is accepted. Where the next one begins is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// What it announces, in bytes.
    pub length: u32,
    /// What is accepted, in bytes.
    pub max: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a frame of {} bytes; no more than {} are accepted", self.length, self.max)
    }
}

/// A body with its length before it.
///
/// # Panics
///
/// The body is longer than 4 GiB.
#[must_use]
pub fn encode(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("bodies are far shorter");
    [&length.to_be_bytes()[..], body].concat()
}

/// Takes a stream of bytes apart into bodies.
#[derive(Debug)]
pub struct Frames {
    /// The beginning of a frame, and what was received together with it.
    buffer: Vec<u8>,
    max: usize,
}

impl Frames {
    /// Of a stream whose bodies are no longer than `max`.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { buffer: Vec::new(), max }
    }

    /// Takes what was received. [`next_body`](Self::next_body) is called until there is none, so no more is kept
    /// than one frame and one such piece.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete body. A length that is too long is refused before room is made for it.
    ///
    /// # Errors
    ///
    /// A frame is too long: the stream is of no use any more.
    pub fn next_body(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let Some((length, rest)) = self.buffer.split_first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length);
        let size = usize::try_from(length).ok().filter(|size| *size <= self.max);
        let size = size.ok_or(TooLong { length, max: self.max })?;
        let Some(body) = rest.get(..size).map(<[u8]>::to_vec) else { return Ok(None) };
        self.buffer.drain(..LENGTH + size);
        if self.buffer.is_empty() {
            // Clients are silent for long: none keeps the room of its longest request.
            self.buffer = Vec::new();
        }
        Ok(Some(body))
    }
}

/// All requests in these bytes, up to a frame that is too long: what a client could make of the keeper's reading,
/// in one function.
#[must_use]
pub fn requests(bytes: &[u8]) -> Vec<Result<Request, Malformed>> {
    let mut frames = Frames::new(BODY_MAX);
    frames.push(bytes);
    let mut found = Vec::new();
    while let Ok(Some(body)) = frames.next_body() {
        found.push(request::decode(&body));
    }
    found
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;
    use alloc::vec;

    use quickcheck::quickcheck;

    use super::*;

    #[test]
    fn bodies_come_out_as_they_went_in_however_they_are_cut() {
        let bodies = [b"one".to_vec(), Vec::new(), vec![7; 1000], b"last".to_vec()];
        let bytes: Vec<u8> = bodies.iter().flat_map(|body| encode(body)).collect();
        for size in [1, 2, 3, 5, 999, bytes.len()] {
            let mut frames = Frames::new(1000);
            let mut found = Vec::new();
            for piece in bytes.chunks(size) {
                frames.push(piece);
                while let Some(body) = frames.next_body().unwrap() {
                    found.push(body);
                }
            }
            assert_eq!(found, bodies, "pieces of {size}");
            assert_eq!(frames.buffer.capacity(), 0);
        }
    }

    #[test]
    fn what_is_too_long_is_refused_by_its_length_alone() {
        let mut frames = Frames::new(10);
        frames.push(&11_u32.to_be_bytes());
        assert_eq!(frames.next_body(), Err(TooLong { length: 11, max: 10 }));
        // And stays so.
        frames.push(b"more");
        assert!(frames.next_body().is_err());
        let mut frames = Frames::new(BODY_MAX);
        frames.push(&u32::MAX.to_be_bytes());
        assert!(frames.next_body().unwrap_err().to_string().contains("4294967295 bytes"));
        assert!(frames.buffer.capacity() < 64);
    }

    quickcheck! {
        fn no_bytes_are_too_much_for_the_reader(bytes: Vec<u8>) -> bool {
            let framed = encode(&bytes);
            requests(&bytes).len() <= bytes.len() / LENGTH + 1 && requests(&framed).len() == 1
        }
    }
}
