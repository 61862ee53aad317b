//! The requests to a cloud and the replies, as plain data.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

/// The maximum length of a reply of a cloud's API, in bytes. The largest route tables have some hundred kB.
pub const REPLY_MAX: usize = 4 << 20;

/// The maximum length of a reply with credentials or about this machine, in bytes.
pub const SHORT_REPLY_MAX: usize = 64 << 10;

/// The service that gets a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The cloud's API. The event handler authenticates the request.
    Api,
    /// The service of the cloud that describes this machine. It is reached without a proxy.
    Metadata,
    /// The service that issues tokens for an application.
    Login,
}

/// The methods of HTTP that the clouds' APIs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "HTTP's own words")]
pub enum Method {
    Get,
    Put,
    Post,
    Delete,
}

impl Method {
    /// Returns the method's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The name of the request, for messages.
    pub what: &'static str,
    /// The service that gets the request.
    pub place: Place,
    /// The method.
    pub method: Method,
    /// The path and the query.
    pub target: String,
    /// Header fields, except for those of authentication.
    pub headers: Vec<(&'static str, Box<str>)>,
    /// The body.
    pub body: String,
    /// The time to wait before the request is sent.
    pub after: Duration,
    /// Whether the service may delay its reply until an operation has ended.
    pub waits: bool,
}

impl Ask {
    /// Creates a request without a body.
    #[must_use]
    pub fn new(what: &'static str, place: Place, method: Method, target: String) -> Self {
        let (headers, body) = (Vec::new(), String::new());
        Self { what, place, method, target, headers, body, after: Duration::ZERO, waits: false }
    }

    /// Adds a header field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Box<str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sets a body in JSON.
    #[must_use]
    pub fn json(mut self, body: String) -> Self {
        self.body = body;
        self.with("content-type", "application/json")
    }

    /// Sets a body of form fields.
    #[must_use]
    pub fn form(mut self, fields: &[(&str, &str)]) -> Self {
        self.body = form(fields);
        self.with("content-type", "application/x-www-form-urlencoded; charset=utf-8")
    }

    /// Sets the time to wait before the request.
    #[must_use]
    pub const fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }
}

/// A reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The header fields. The names are in lower case.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// The whole body.
    pub body: Bytes,
}

impl Reply {
    /// Returns the value of a header field. The name is given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| &**given == name).map(|(_, value)| &**value)
    }

    /// Returns the time that the service asks to wait, if it gives one in seconds.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds: u32 = self.header("retry-after")?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds.into()))
    }

    /// Returns the body as text.
    ///
    /// # Errors
    ///
    /// The body is not UTF-8.
    pub fn text(&self, what: &str) -> Result<&str, String> {
        core::str::from_utf8(&self.body).map_err(|_| format!("{what}: the reply is no text"))
    }
}

/// Percent-encodes a text: all but the unreserved characters of RFC 3986.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Encodes the fields of a form, or of a query.
#[must_use]
pub fn form(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}
