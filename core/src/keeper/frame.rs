//! The frames of the keeper's socket: a big-endian length of four bytes, followed by a JSON body of that
//! length.

use alloc::vec::Vec;
use core::fmt;

use super::request::{self, Malformed, Request};

/// The number of bytes of the length field.
pub const LENGTH: usize = 4;

/// The maximum length of a body that the keeper accepts, in bytes. Linux passes at most 128 KiB in one
/// argument to a program.
pub const BODY_MAX: usize = 256 << 10;

/// The maximum length of a body that the keeper sends, in bytes. A page of [`PAGE`](super::PAGE) instances is
/// well below it.
pub const ANSWER_MAX: usize = 1 << 20;

/// The error of a frame whose announced length exceeds the maximum. The position of the next frame is
/// unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// The announced length, in bytes.
    pub length: u32,
    /// The maximum length, in bytes.
    pub max: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a frame of {} bytes; no more than {} are accepted", self.length, self.max)
    }
}

/// Returns the body with its length in front.
///
/// # Panics
///
/// Panics if the body is longer than 4 GiB.
#[must_use]
pub fn encode(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("bodies are far shorter");
    [&length.to_be_bytes()[..], body].concat()
}

/// A parser that splits a stream of bytes into bodies.
#[derive(Debug)]
pub struct Frames {
    /// The bytes of an incomplete frame, and the bytes received together with it.
    buffer: Vec<u8>,
    max: usize,
}

impl Frames {
    /// Creates a parser for a stream whose bodies have at most `max` bytes.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { buffer: Vec::new(), max }
    }

    /// Appends received bytes. The caller calls [`next_body`](Self::next_body) until it returns none, so the
    /// buffer holds at most one frame and one received piece.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next complete body. A length above the maximum is refused before memory is allocated for
    /// it.
    ///
    /// # Errors
    ///
    /// A frame is too long. The stream cannot be used any more.
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
            // Clients send nothing for long periods. So no client's buffer keeps the size of its longest
            // request.
            self.buffer = Vec::new();
        }
        Ok(Some(body))
    }
}

/// Returns all requests in these bytes, up to a frame that is too long. It covers in one function all input
/// handling of the keeper that a client can reach.
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
        // The error is permanent.
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
