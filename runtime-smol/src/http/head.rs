//! The head of a request, read as hyper reads it.

use hax_driver::http::{HEAD_MAX, HEADERS_MAX};
use http::Uri;

/// What begins a connection of HTTP/2, which is not answered.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) uri: Uri,
    pub(super) is_1_0: bool,
    /// Whether the client may ask again on this connection.
    pub(super) keep_alive: bool,
    pub(super) length: Length,
    /// Whether there is an `Expect`, whatever it expects.
    pub(super) expects: bool,
    /// Whether the client waits for leave to send its body.
    pub(super) waits: bool,
    pub(super) authorization: Option<Vec<u8>>,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Known(u64),
    Chunked,
}

/// Why there is no head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// The answer is this status.
    Status(u16),
    /// There is none.
    Mute,
}

/// The head at the beginning of these bytes and its length; nothing if it is not whole.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Bad> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) if bytes.starts_with(PREFACE) => return Err(Bad::Mute),
        Err(httparse::Error::TooManyHeaders) => return Err(Bad::Status(431)),
        Err(_) => return Err(Bad::Status(400)),
    };
    let is_1_0 = request.version == Some(0);
    let uri = request.path.unwrap_or_default().parse().map_err(|_| Bad::Status(400))?;
    let framing = Framing::of(request.headers, is_1_0)?;
    let find = |name: &str| request.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
    let expect = request.headers.iter().rfind(|h| h.name.eq_ignore_ascii_case("expect"));
    let continues = expect.is_some_and(|h| h.value.eq_ignore_ascii_case(b"100-continue"));
    let head = Head {
        method: request.method.unwrap_or_default().into(),
        uri,
        is_1_0,
        keep_alive: framing.keep_alive,
        length: framing.length,
        expects: expect.is_some(),
        waits: continues && !is_1_0 && framing.length != Length::Known(0),
        authorization: find("authorization").map(|h| h.value.to_vec()),
    };
    Ok(Some((head, length)))
}

/// How the request ends, and whether the connection does with it (RFC 9112, 6.3 and 9.3).
struct Framing {
    length: Length,
    keep_alive: bool,
}

impl Framing {
    fn of(headers: &[httparse::Header<'_>], is_1_0: bool) -> Result<Self, Bad> {
        let (mut known, mut is_known) = (None, false);
        let mut chunked = None;
        let (mut keep_alive, mut close) = (!is_1_0, false);
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("transfer-encoding") {
                if is_1_0 {
                    return Err(Bad::Status(400));
                }
                let last = words(header.value).last().unwrap_or_default();
                chunked = Some(last.eq_ignore_ascii_case(b"chunked"));
                known = None;
            } else if is("content-length") {
                is_known = true;
                if chunked.is_some() {
                    continue;
                }
                let length = number(header.value).ok_or(Bad::Status(400))?;
                if known.is_some_and(|known| known != length) {
                    return Err(Bad::Status(400));
                }
                known = Some(length);
            } else if is("connection") {
                let says = |what: &[u8]| words(header.value).any(|w| w.eq_ignore_ascii_case(what));
                close |= says(b"close");
                keep_alive = !close && (keep_alive || says(b"keep-alive"));
            }
        }
        let length = match chunked {
            Some(true) => Length::Chunked,
            Some(false) => return Err(Bad::Status(400)),
            None => Length::Known(known.unwrap_or(0)),
        };
        // Who says both may mean to smuggle a request.
        let keep_alive = keep_alive && !(is_known && chunked.is_some());
        Ok(Self { length, keep_alive })
    }
}

/// The parts of a list in a header.
fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Digits only.
fn number(value: &[u8]) -> Option<u64> {
    let digits = value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// Whether a head that was not whole may be whole with what came after the first `before` bytes.
pub(super) fn may_be_whole(bytes: &[u8], before: usize) -> bool {
    let new = &bytes[before.saturating_sub(3)..];
    new.windows(2).any(|pair| pair == b"\n\n") || new.windows(3).any(|end| end == b"\n\r\n")
}

/// Whether a head that is not whole will not be read any further.
pub(super) fn is_too_long(bytes: &[u8]) -> bool {
    bytes.len() >= HEAD_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        parse(text.as_bytes()).unwrap().unwrap().0
    }

    fn with(headers: &str) -> String {
        format!("POST /a?b HTTP/1.1\r\n{headers}\r\n")
    }

    #[test]
    fn what_ends_a_request_and_its_connection() {
        for (headers, length, keep_alive) in [
            ("", Length::Known(0), true),
            ("Content-Length: 3\r\nContent-Length: 3\r\n", Length::Known(3), true),
            ("Connection: close\r\nConnection: keep-alive\r\n", Length::Known(0), false),
            ("Connection: x, Close\r\n", Length::Known(0), false),
            ("Transfer-Encoding: gzip, chunked\r\n", Length::Chunked, true),
            ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", Length::Chunked, false),
            ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", Length::Chunked, false),
        ] {
            let head = head(&with(headers));
            assert_eq!((head.length, head.keep_alive), (length, keep_alive), "{headers}");
        }
        let old = |headers| head(&format!("GET / HTTP/1.0\r\n{headers}\r\n")).keep_alive;
        assert!(!old("") && old("Connection: keep-alive\r\n"));
    }

    #[test]
    fn what_is_refused() {
        for headers in [
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            "Content-Length: +1\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: chunked, gzip\r\n",
            "no colon\r\n",
        ] {
            assert_eq!(parse(with(headers).as_bytes()).unwrap_err(), Bad::Status(400), "{headers}");
        }
        let many = with(&"a: b\r\n".repeat(HEADERS_MAX + 1));
        assert_eq!(parse(many.as_bytes()).unwrap_err(), Bad::Status(431));
        assert_eq!(parse(PREFACE).unwrap_err(), Bad::Mute);
        assert!(parse(b"GET / HT").unwrap().is_none());
    }

    #[test]
    fn who_waits_for_leave() {
        let waits = |headers| head(&with(headers)).waits;
        assert!(waits("Expect: 100-Continue\r\nContent-Length: 1\r\n"));
        assert!(!waits("Expect: 100-continue\r\n"), "there is nothing to send");
        assert!(head(&with("Expect: x\r\n")).expects);
    }

    #[test]
    fn the_end_of_a_head_is_found_across_reads() {
        assert!(may_be_whole(b"GET / HTTP/1.1\r\n\r\n", 17));
        assert!(may_be_whole(b"GET / HTTP/1.1\n\n", 3));
        assert!(!may_be_whole(b"GET / HTTP/1.1\r\n", 3));
    }
}
