//! Requests and responses in the framing of Consul's HTTP API: target, parameters, bodies, errors.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::ser::PrettyFormatter;

/// An agent of the cluster, in order of [`super::Consul::add_agent`]. The first is zero.
pub type AgentId = usize;

/// The host's id of a request. It is unique among the requests that have no response yet.
pub type RequestId = u64;

/// One HTTP request to one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The host's id of the request, repeated in the response.
    pub id: RequestId,
    /// The agent that receives the request.
    pub agent: AgentId,
    /// `GET`, `PUT`, …
    pub method: String,
    /// Path and query, percent-encoded: `/v1/kv/leader?raw`.
    pub target: String,
    /// The whole body.
    pub body: Bytes,
}

impl Request {
    /// Creates a request to the first agent.
    pub fn new(id: RequestId, method: &str, target: &str, body: impl Into<Bytes>) -> Self {
        Self {
            id,
            agent: 0,
            method: method.to_owned(),
            target: target.to_owned(),
            body: body.into(),
        }
    }
}

/// The response to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The id of the request.
    pub id: RequestId,
    /// The HTTP status.
    pub status: u16,
    /// Header names as Consul spells them, and their values. Framing headers are not included.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

impl Response {
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
}

/// A response without the id of its request.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new() }
    }

    pub(super) fn text(status: u16, text: impl Into<String>) -> Self {
        Self {
            status,
            headers: vec![("Content-Type", "text/plain; charset=utf-8".to_owned())],
            body: Bytes::from(text.into()),
        }
    }

    pub(super) fn json(value: &impl Serialize, pretty: bool) -> Self {
        Self::json_with_status(200, value, pretty)
    }

    pub(super) fn json_with_status(status: u16, value: &impl Serialize, pretty: bool) -> Self {
        Self {
            status,
            headers: vec![("Content-Type", "application/json".to_owned())],
            body: encode(value, pretty),
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn to(self, id: RequestId) -> Response {
        Response { id, status: self.status, headers: self.headers, body: self.body }
    }
}

/// Builds a bad request response: the API's most common refusal.
pub(super) fn bad(text: impl Into<String>) -> Answer {
    Answer::text(400, text)
}

/// Builds Consul's response to a generic error of a handler.
pub(super) fn failed(text: impl Into<String>) -> Answer {
    Answer::text(500, text)
}

/// Encodes JSON as Go does.
///
/// Go escapes `<`, `>`, `&` and the two Unicode line separators. Pretty JSON is indented by four and ends
/// with a newline.
pub(super) fn encode(value: &impl Serialize, pretty: bool) -> Bytes {
    let mut plain = Vec::new();
    if pretty {
        let formatter = PrettyFormatter::with_indent(b"    ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut plain, formatter);
        value.serialize(&mut serializer).expect("our types have string keys only");
        plain.push(b'\n');
    } else {
        serde_json::to_writer(&mut plain, value).expect("our types have string keys only");
    }
    Bytes::from(escape(plain))
}

fn escape(plain: Vec<u8>) -> Vec<u8> {
    // These bytes occur inside strings only, so the text can be rewritten without parsing it.
    let is_special = |byte: &u8| matches!(byte, b'<' | b'>' | b'&' | 0xe2);
    // Nearly all bodies have none of them. A loop that does not end early is compiled to vector instructions.
    let has_some = |part: &[u8]| part.iter().fold(false, |some, byte| some | is_special(byte));
    if !plain.chunks(256).any(has_some) {
        return plain;
    }
    let mut out = Vec::with_capacity(plain.len() + 16);
    let mut rest = plain.as_slice();
    while let Some(at) = rest.iter().position(is_special) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let (text, len): (&[u8], usize) = match rest[0] {
            b'<' => (b"\\u003c", 1),
            b'>' => (b"\\u003e", 1),
            b'&' => (b"\\u0026", 1),
            _ if rest.starts_with(b"\xe2\x80\xa8") => (b"\\u2028", 3),
            _ if rest.starts_with(b"\xe2\x80\xa9") => (b"\\u2029", 3),
            _ => (&rest[..1], 1),
        };
        out.extend_from_slice(text);
        rest = &rest[len..];
    }
    out.extend_from_slice(rest);
    out
}

/// Decodes a body. The error has the wording of Go's decoder, as far as that is known.
pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err("EOF".to_owned());
    }
    // Go checks the grammar of the whole body before it checks types.
    let grammar = serde_json::from_slice::<serde::de::IgnoredAny>(body);
    if grammar.is_err_and(|error| error.is_eof()) {
        return Err("unexpected EOF".to_owned());
    }
    serde_json::from_slice(body).map_err(|error| {
        let text = error.to_string();
        if let Some(name) = text.strip_prefix("unknown field `").and_then(|t| t.split('`').next()) {
            return format!("json: unknown field \"{name}\"");
        }
        // The double's own error texts are returned without serde's position.
        text.split(" at line ").next().unwrap_or_default().to_owned()
    })
}

#[derive(Clone, Debug, Default)]
pub(super) struct Target {
    pub(super) path: String,
    params: BTreeMap<String, String>,
}

impl Target {
    pub(super) fn parse(target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut params = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // The first of several values wins, as in Go's `Values.Get`.
            params.entry(unescape(name, true)).or_insert_with(|| unescape(value, true));
        }
        Self { path: unescape(path, false), params }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.params.contains_key(name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.params.get(name).map(String::as_str)
    }

    /// Returns the value of a parameter, or an empty text if it is absent: both mean the same.
    pub(super) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// Returns the parameters in the format of Go's `Values.Encode`: sorted, each with `=`.
    pub(super) fn encoded(&self) -> String {
        let pairs: Vec<_> = self.params.iter().map(|(k, v)| format!("{k}={v}")).collect();
        pairs.join("&")
    }
}

fn unescape(text: &str, plus_is_space: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'+' if plus_is_space => out.push(b' '),
            b'%' => {
                let hex = tail.get(..2).and_then(|h| str::from_utf8(h).ok());
                match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
                    Some(value) => {
                        out.push(value);
                        rest = &tail[2..];
                    }
                    None => out.push(b'%'),
                }
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Parses an unsigned number in a parameter. The error is Go's.
pub(super) fn number(text: &str) -> Result<u64, String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text
            .parse()
            .map_err(|_| format!("strconv.ParseUint: parsing \"{text}\": value out of range"));
    }
    Err(format!("strconv.ParseUint: parsing \"{text}\": invalid syntax"))
}

/// Parses a duration in Go's format: `1h30m`, `200ms`, `1.5s`.
///
/// Negative durations become zero: the API treats both alike.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration \"{text}\"");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (amount, tail) = rest.split_at(digits);
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        if unit.is_empty() && !amount.is_empty() {
            return Err(format!("time: missing unit in duration \"{text}\""));
        }
        let scale = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(invalid()),
        };
        nanos = nanos.saturating_add(scaled(amount, scale).ok_or_else(invalid)?);
        rest = tail;
    }
    Ok(if negative { Duration::ZERO } else { Duration::from_nanos(nanos) })
}

fn scaled(amount: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut nanos =
        if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.checked_mul(scale)? };
    let mut unit = scale;
    for digit in fraction.bytes() {
        unit /= 10;
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        nanos = nanos.checked_add(digit * unit)?;
    }
    Some(nanos)
}

/// Formats a duration as Go does: `10s`, `24h0m0s`, `1m0s`.
pub(super) fn print_duration(d: Duration) -> String {
    let seconds = d.as_secs();
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (h, m) {
        (0, 0) => format!("{s}s"),
        (0, m) => format!("{m}m{s}s"),
        (h, m) => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("-3s"), Ok(Duration::ZERO));
        assert_eq!(duration("5"), Err("time: missing unit in duration \"5\"".to_owned()));
        assert_eq!(duration("zz"), Err("time: invalid duration \"zz\"".to_owned()));
        assert_eq!(duration(""), Err("time: invalid duration \"\"".to_owned()));
        assert_eq!(print_duration(Duration::from_secs(86400)), "24h0m0s");
    }

    #[test]
    fn targets_are_unescaped() {
        let target = Target::parse("/v1/kv/a%2Fb%20c%25+x?keys&separator=%2F&x=a+b");
        assert_eq!(target.path, "/v1/kv/a/b c%+x");
        assert!(target.has("keys"));
        assert_eq!(target.get("separator"), Some("/"));
        assert_eq!(target.get("x"), Some("a b"));
    }

    #[test]
    fn json_is_escaped_as_go_escapes_it() {
        assert_eq!(encode(&"h<&>é\u{2028}", false), "\"h\\u003c\\u0026\\u003eé\\u2028\"");
    }
}
