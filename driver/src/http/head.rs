//! The parser of a request's head, with its errors. It is based on hyper's parser (httparse). Additional
//! checks refuse requests that two parsers could read differently, as RFC 9112 allows a server to do.

use http::Uri;
use http::uri::Authority;

use super::{HEAD_MAX, HEADERS_MAX, TARGET_MAX};

/// The connection preface of HTTP/2, which is not answered.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The head of a request.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) uri: Uri,
    pub(super) is_1_0: bool,
    /// Whether the client may send another request on this connection.
    pub(super) keep_alive: bool,
    pub(super) length: Length,
    /// Whether the client waits for `100 Continue` before it sends its body.
    pub(super) expects_continue: bool,
    pub(super) authorization: Option<Vec<u8>>,
}

/// The length or the framing of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Known(u64),
    Chunked,
}

/// The reason why there is no head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeadError {
    /// The request is refused with this status.
    Status(u16),
    /// The connection is closed without a response.
    Close,
}

/// Parses the head at the beginning of these bytes; returns it with its length, or `None` if it is
/// incomplete.
///
/// The error is 414 for too long a target, 431 for too long a head or too many lines, 417 for an unknown
/// expectation, and 400 or 501 for everything else.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, HeadError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if target_is_too_long(bytes) => {
            return Err(HeadError::Status(414));
        }
        Ok(httparse::Status::Partial) if bytes.len() >= HEAD_MAX => {
            return Err(HeadError::Status(431));
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) if bytes.starts_with(PREFACE) => return Err(HeadError::Close),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::Status(431)),
        Err(_) => return Err(HeadError::Status(400)),
    };
    if request.path.is_some_and(|path| path.len() > TARGET_MAX) {
        return Err(HeadError::Status(414));
    }
    if length > HEAD_MAX {
        return Err(HeadError::Status(431));
    }
    let is_1_0 = request.version == Some(0);
    let uri: Uri = request.path.unwrap_or_default().parse().map_err(|_| HeadError::Status(400))?;
    // User information does not belong there (RFC 9110, 4.2.4), and would hide the host of the target.
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(HeadError::Status(400));
    }
    let framing = Framing::of(request.headers, is_1_0)?;
    let find = |name: &str| request.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
    let expected = request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case("expect"));
    let mut expected = expected.flat_map(|header| elements(header.value)).peekable();
    let continues = expected.peek().is_some();
    // RFC 9110, 10.1.1: HTTP/1.0 has no expectations.
    if !is_1_0 && !expected.all(|word| word.eq_ignore_ascii_case(b"100-continue")) {
        return Err(HeadError::Status(417));
    }
    let head = Head {
        method: request.method.unwrap_or_default().into(),
        uri,
        is_1_0,
        keep_alive: framing.keep_alive,
        length: framing.length,
        expects_continue: continues && !is_1_0 && framing.length != Length::Known(0),
        authorization: find("authorization").map(|h| h.value.to_vec()),
    };
    Ok(Some((head, length)))
}

/// The length of the body, and whether the connection stays open (RFC 9112, 6.3 and 9.3).
struct Framing {
    length: Length,
    keep_alive: bool,
}

impl Framing {
    fn of(headers: &[httparse::Header<'_>], is_1_0: bool) -> Result<Self, HeadError> {
        let all = |name: &'static str| {
            headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name))
        };
        // RFC 9112, 3.2: exactly one Host header; HTTP/1.0 may omit it.
        let hosts = all("host").count();
        if hosts > 1 || hosts == 0 && !is_1_0 || !all("host").all(|header| is_host(header.value)) {
            return Err(HeadError::Status(400));
        }
        let mut known = None;
        for header in all("content-length") {
            let length = number(header.value).ok_or(HeadError::Status(400))?;
            if known.is_some_and(|known| known != length) {
                return Err(HeadError::Status(400));
            }
            known = Some(length);
        }
        let codings = all("transfer-encoding").flat_map(|header| elements(header.value));
        let length = match chunked(codings)? {
            // A request with both, or with chunks in HTTP/1.0, may be an attempt at request smuggling.
            true if is_1_0 || known.is_some() => return Err(HeadError::Status(400)),
            true => Length::Chunked,
            false => Length::Known(known.unwrap_or(0)),
        };
        let (mut keep_alive, mut close) = (!is_1_0, false);
        for header in all("connection") {
            let says = |what: &[u8]| elements(header.value).any(|w| w.eq_ignore_ascii_case(what));
            close |= says(b"close");
            keep_alive = !close && (keep_alive || says(b"keep-alive"));
        }
        Ok(Self { length, keep_alive })
    }
}

/// Returns whether the body is chunked, by its transfer codings. Without chunked as the last coding its end
/// cannot be found (RFC 9112, 6.3). No other coding is supported here (6.1).
fn chunked<'a>(codings: impl Iterator<Item = &'a [u8]>) -> Result<bool, HeadError> {
    let codings: Vec<_> = codings.collect();
    let is_chunked = |coding: &&[u8]| coding.eq_ignore_ascii_case(b"chunked");
    match codings.split_last() {
        None => Ok(false),
        Some((last, _)) if !is_chunked(last) => Err(HeadError::Status(400)),
        Some((_, [])) => Ok(true),
        Some(_) => Err(HeadError::Status(501)),
    }
}

/// Returns the elements of a list in a header.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Returns whether the value is a host with an optional port.
fn is_host(value: &[u8]) -> bool {
    !value.contains(&b'@') && Authority::try_from(value).is_ok()
}

/// Parses a number that consists of digits only.
fn number(value: &[u8]) -> Option<u64> {
    let digits = value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// Returns whether an incomplete head may be complete with the bytes after the first `before` ones.
pub(super) fn may_be_complete(bytes: &[u8], before: usize) -> bool {
    let new = &bytes[before.saturating_sub(3)..];
    new.windows(2).any(|pair| pair == b"\n\n") || new.windows(3).any(|end| end == b"\n\r\n")
}

/// Returns whether the incomplete first line is too long because of its target.
fn target_is_too_long(bytes: &[u8]) -> bool {
    let line = bytes.trim_ascii_start();
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let target = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    target.len() > TARGET_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        parse(text.as_bytes()).unwrap().unwrap().0
    }

    fn with(headers: &str) -> String {
        format!("POST /a?b HTTP/1.1\r\nHost: h\r\n{headers}\r\n")
    }

    #[test]
    fn what_ends_a_request_and_its_connection() {
        for (headers, length, keep_alive) in [
            ("", Length::Known(0), true),
            ("Content-Length: 3\r\nContent-Length: 3\r\n", Length::Known(3), true),
            ("Connection: close\r\nConnection: keep-alive\r\n", Length::Known(0), false),
            ("Connection: x, Close\r\n", Length::Known(0), false),
            ("Transfer-Encoding: Chunked\r\n", Length::Chunked, true),
        ] {
            let head = head(&with(headers));
            assert_eq!((head.length, head.keep_alive), (length, keep_alive), "{headers}");
        }
        let old = |headers| head(&format!("GET / HTTP/1.0\r\n{headers}\r\n")).keep_alive;
        assert!(!old("") && old("Connection: keep-alive\r\n"));
    }

    #[test]
    fn what_is_refused() {
        let status = |bytes: &[u8]| match parse(bytes) {
            Err(HeadError::Status(status)) => status,
            other => panic!("{other:?}"),
        };
        for (headers, expected) in [
            ("Content-Length: 1\r\nContent-Length: 2\r\n", 400),
            ("Content-Length: +1\r\n", 400),
            ("Content-Length:\r\n", 400),
            ("Content-Length: 1, 1\r\n", 400),
            ("Content-Length: 99999999999999999999\r\n", 400),
            ("Transfer-Encoding: chunked, gzip\r\n", 400),
            ("Transfer-Encoding: gzip, chunked\r\n", 501),
            ("Transfer-Encoding: chunked, chunked\r\n", 501),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", 501),
            ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", 400),
            ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", 400),
            ("Host: h\r\n", 400),
            ("Expect: fish\r\n", 417),
            ("Expect: 100-continue, fish\r\n", 417),
            ("no colon\r\n", 400),
            (&"a: b\r\n".repeat(HEADERS_MAX + 1), 431),
            (&format!("a: {}\r\n", "b".repeat(HEAD_MAX)), 431),
        ] {
            assert_eq!(status(with(headers).as_bytes()), expected, "{headers}");
        }
        assert_eq!(status(b"GET / HTTP/1.1\r\n\r\n"), 400, "no host");
        for host in ["", "a b", "a b/c@d", "u@h", "h/p", "h?q", "[::1"] {
            let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(status(text.as_bytes()), 400, "{host}");
        }
        for host in ["h", "h:80", "[::1]:80", "192.0.2.1", "a_b.example", "[2001:db8::1]"] {
            head(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        }
        assert_eq!(status(b"GET http://u:p@h/ HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
        let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(TARGET_MAX));
        assert_eq!(status(long.as_bytes()), 414);
        assert_eq!(status(&long.as_bytes()[..TARGET_MAX + 10]), 414, "it is not waited for");
        assert_eq!(status(&b"\n".repeat(HEAD_MAX)), 431, "nor is what never begins");
        assert_eq!(parse(PREFACE).unwrap_err(), HeadError::Close);
        assert!(parse(b"GET / HT").unwrap().is_none());
        assert!(parse(b"GET / HTTP/1.0\r\n\r\n").unwrap().is_some(), "which has no host");
    }

    #[test]
    fn who_waits_for_leave() {
        let expects_continue = |headers| head(&with(headers)).expects_continue;
        assert!(expects_continue("Expect: 100-Continue\r\nContent-Length: 1\r\n"));
        assert!(!expects_continue("Expect: 100-continue\r\n"), "there is nothing to send");
    }

    #[test]
    fn the_end_of_a_head_is_found_across_reads() {
        assert!(may_be_complete(b"GET / HTTP/1.1\r\n\r\n", 17));
        assert!(may_be_complete(b"GET / HTTP/1.1\n\n", 3));
        assert!(!may_be_complete(b"GET / HTTP/1.1\r\n", 3));
    }
}
