//! A small blocking HTTP client for tests with a real Consul.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The timeout of a connect.
const CONNECT: Duration = Duration::from_secs(5);

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Header names as received, and their values.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Reply {
    /// Returns the value of a header. The name is case-insensitive.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Returns `X-Consul-Index`, if the response has it.
    #[must_use]
    pub fn index(&self) -> Option<u64> {
        self.header("X-Consul-Index")?.parse().ok()
    }

    /// Returns the body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends one request on its own connection and reads the response within `limit`.
pub fn request(
    addr: SocketAddr,
    limit: Duration,
    method: &str,
    target: &str,
    body: &[u8],
) -> io::Result<Reply> {
    request_with(addr, limit, "", method, target, body)
}

/// Sends a request like [`request`], with additional header lines, each ended by CRLF.
pub fn request_with(
    addr: SocketAddr,
    limit: Duration,
    headers: &str,
    method: &str,
    target: &str,
    body: &[u8],
) -> io::Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&addr, CONNECT)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    stream.set_nodelay(true)?;
    let mut message = format!(
        "{method} {target} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    message.extend_from_slice(body);
    // A server that refuses the body may respond and close before it has read the whole body.
    let sent = stream.write_all(&message);
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes)
        && bytes.is_empty()
    {
        return Err(sent.err().unwrap_or(error));
    }
    parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP response"))
}

fn parse(bytes: &[u8]) -> Option<Reply> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(n, v)| (n.trim().to_owned(), v.trim().to_owned()));
    let mut reply = Reply { status, headers: headers.collect(), body: bytes[end + 4..].to_vec() };
    if reply.header("Transfer-Encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
        reply.body = unchunk(&reply.body)?;
    } else if let Some(length) = reply.header("Content-Length") {
        let length: usize = length.parse().ok()?;
        if reply.body.len() < length {
            return None;
        }
        reply.body.truncate(length);
    }
    Some(reply)
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = str::from_utf8(&rest[..line]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        rest = rest.get(line + 2..)?;
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_framings_are_read() {
        let plain =
            parse(b"HTTP/1.1 404 Not Found\r\nX-Consul-Index: 7\r\nContent-Length: 2\r\n\r\nab");
        let plain = plain.unwrap();
        assert_eq!((plain.status, plain.index(), plain.text().as_str()), (404, Some(7), "ab"));
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).unwrap().body, b"abc");
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"), None);
    }
}
