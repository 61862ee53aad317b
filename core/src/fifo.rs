//! The port between a machine and the host's server of named pipes, and the protocol of these pipes.
//!
//! All pipes are in the server's folder. The server's pipe is [`REQUESTS`]. A client announces itself there
//! with a line that contains a *token*. It writes the line at once, with a line break before it too, so that
//! an unfinished line of another client does no harm. A client has two pipes of its own, named after its
//! token: it writes its request to one and reads the response from the other, each preceded by its length. So
//! no client can mix its bytes with another's, or read another's response.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::base::id::FifoId;

/// The name of the pipe for the clients' announcements.
pub const REQUESTS: &str = "requests";

/// The maximum size of a request or response, in bytes.
pub const BODY_MAX: usize = 4 << 20;

/// The size of a length, in bytes.
pub const LENGTH: usize = 4;

/// One complete request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The id of the request. The machine must emit exactly one [`Response`].
    pub id: FifoId,
    /// The complete body.
    pub body: Bytes,
}

/// The response to a request. A client that has gone does not get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The id of the request.
    pub id: FifoId,
    /// The complete body.
    pub body: Bytes,
}

/// The name chosen by a client: 1 to 64 letters, digits and hyphens, different for each client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(Box<str>);

const TOKEN_MAX: usize = 64;
const MARK: &[u8] = b"H1 ";

impl Token {
    /// Returns the token with this name, if the name is valid.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (is_plain && (1..=TOKEN_MAX).contains(&name.len())).then(|| Self(name.into()))
    }

    /// Returns the token of the client with a pipe of this name.
    #[must_use]
    pub fn of_pipe(name: &str) -> Option<Self> {
        let (token, kind) = name.split_once('.')?;
        Self::new(token).filter(|_| matches!(kind, "request" | "answer"))
    }

    /// Returns the name of the pipe written by the client.
    #[must_use]
    pub fn request_pipe(&self) -> String {
        format!("{}.request", self.0)
    }

    /// Returns the name of the pipe read by the client.
    #[must_use]
    pub fn answer_pipe(&self) -> String {
        format!("{}.answer", self.0)
    }

    /// Returns the client's line for [`REQUESTS`], to be written in one write. It is far below `PIPE_BUF`
    /// (4,096 bytes), so no bytes of other clients can come in between (pipe(7)).
    #[must_use]
    pub fn announcement(&self) -> String {
        format!("\nH1 {}\n", self.0)
    }
}

/// A parser of the announcements in the server's pipe.
#[derive(Debug, Default)]
pub struct Announcements {
    line: Vec<u8>,
    /// The line is longer than any announcement.
    is_long: bool,
}

impl Announcements {
    /// Processes bytes; returns the tokens of the announcements that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Token> {
        let mut found = Vec::new();
        for byte in bytes {
            if *byte == b'\n' {
                let name = self.line.strip_prefix(MARK).filter(|_| !self.is_long);
                found.extend(name.and_then(|name| str::from_utf8(name).ok()).and_then(Token::new));
                self.line.clear();
                self.is_long = false;
            } else if self.line.len() < MARK.len() + TOKEN_MAX {
                self.line.push(*byte);
            } else {
                self.is_long = true;
            }
        }
        found
    }
}

/// Returns a request or a response preceded by its length.
#[must_use]
pub fn frame(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], body].concat()
}

/// The state of a partly received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// At least this number of bytes is missing.
    Lacks(usize),
    /// The frame is complete.
    Complete,
    /// The frame is longer than [`BODY_MAX`], or more bytes follow it.
    Malformed,
}

/// Returns the state of a frame from the bytes received so far.
#[must_use]
pub fn progress(frame: &[u8]) -> Progress {
    let Some((length, body)) = frame.split_first_chunk::<LENGTH>() else {
        return Progress::Lacks(LENGTH - frame.len());
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    match length.checked_sub(body.len()) {
        Some(0) => Progress::Complete,
        Some(lacks) if length <= BODY_MAX => Progress::Lacks(lacks),
        Some(_) | None => Progress::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn token(name: &str) -> Token {
        Token::new(name).unwrap()
    }

    #[test]
    fn a_token_is_a_plain_word() {
        let longest = "a".repeat(TOKEN_MAX);
        for name in ["a", "4711-0", &longest] {
            assert!(Token::new(name).is_some(), "{name}");
        }
        let too_long = "a".repeat(TOKEN_MAX + 1);
        for name in ["", ".", "..", "a/b", "a b", "a.b", "é", &too_long] {
            assert!(Token::new(name).is_none(), "{name}");
        }
        assert_eq!(Token::of_pipe("7-1.answer"), Some(token("7-1")));
        assert_eq!(Token::of_pipe(REQUESTS), None);
        assert_eq!(Token::of_pipe("nodes.json"), None);
    }

    #[test]
    fn announcements_are_found_among_garbage_however_they_are_cut() {
        let mut bytes = vec![b'x'; 3_000];
        bytes.extend(token("one").announcement().bytes());
        bytes.extend(b"H1 half\0\nH1 \nH2 two\nH1 a/../b\n\xff\xfe");
        bytes.extend(token("two").announcement().bytes());
        bytes.extend(b"H1 ");
        bytes.extend([b'y'; TOKEN_MAX + 1]);
        bytes.extend(token("three").announcement().bytes());
        let expected = vec![token("one"), token("two"), token("three")];
        for size in [1, 2, 7, bytes.len()] {
            let mut reader = Announcements::default();
            let found: Vec<_> = bytes.chunks(size).flat_map(|part| reader.push(part)).collect();
            assert_eq!(found, expected, "parts of {size}");
        }
    }

    #[test]
    fn a_frame_says_how_much_of_it_is_missing() {
        let frame = frame(b"body");
        assert_eq!(progress(&[]), Progress::Lacks(4));
        for at in 0..LENGTH {
            assert_eq!(progress(&frame[..at]), Progress::Lacks(LENGTH - at));
        }
        for at in LENGTH..frame.len() {
            assert_eq!(progress(&frame[..at]), Progress::Lacks(frame.len() - at));
        }
        assert_eq!(progress(&frame), Progress::Complete);
        assert_eq!(progress(&[frame, vec![0]].concat()), Progress::Malformed);
        assert_eq!(progress(&u32::MAX.to_be_bytes()), Progress::Malformed);
        assert_eq!(progress(&0_u32.to_be_bytes()), Progress::Complete);
    }
}
