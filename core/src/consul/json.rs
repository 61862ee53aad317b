//! Consul's JSON, borrowed from the answer's body where possible (Consul API: KV, Health, Catalog,
//! Session, Transactions).

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;

/// One entry of the KV store.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct KvEntry<'a> {
    /// The whole key.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// Base64; `null` for an empty value.
    #[serde(borrow)]
    pub value: Option<Cow<'a, str>>,
    /// The index of its last change.
    pub modify_index: u64,
    /// The session that holds its lock.
    #[serde(borrow, default)]
    pub session: Option<Cow<'a, str>>,
}

impl KvEntry<'_> {
    /// The value's bytes; `None` if it is not base64.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        STANDARD.decode(self.value.as_deref().unwrap_or("")).ok()
    }
}

/// Bytes as Consul wants them inside JSON.
#[must_use]
pub fn base64(bytes: &[u8]) -> alloc::string::String {
    STANDARD.encode(bytes)
}

/// A check, of `health/state/any` or of a watch's payload.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[expect(missing_docs, reason = "Consul's own names")]
pub struct RawCheck<'a> {
    #[serde(borrow)]
    pub node: Cow<'a, str>,
    #[serde(borrow, rename = "CheckID")]
    pub check_id: Cow<'a, str>,
    #[serde(borrow)]
    pub status: Cow<'a, str>,
    #[serde(borrow, rename = "ServiceID", default)]
    pub service_id: Cow<'a, str>,
    #[serde(default)]
    pub modify_index: u64,
}

/// An instance of `catalog/service/<name>`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[expect(missing_docs, reason = "Consul's own names")]
pub struct Instance<'a> {
    #[serde(borrow)]
    pub node: Cow<'a, str>,
    #[serde(borrow, default)]
    pub address: Cow<'a, str>,
    #[serde(borrow, rename = "ServiceID")]
    pub service_id: Cow<'a, str>,
    #[serde(borrow, default)]
    pub service_address: Cow<'a, str>,
    #[serde(default)]
    pub service_port: u32,
    #[serde(borrow, default)]
    pub service_meta: Option<Meta<'a>>,
    #[serde(default)]
    pub modify_index: u64,
}

/// What hare registers with a service.
#[derive(Debug, Default, Deserialize)]
pub struct Meta<'a> {
    /// The port of a hax's HTTP server.
    #[serde(borrow, default)]
    pub http_port: Option<Cow<'a, str>>,
}

impl Instance<'_> {
    /// The endpoint that hare split into address and port: joined by `@` for `inet:…` names, by
    /// `:` for LNet's (hare `util.mkServiceData`).
    #[must_use]
    pub fn endpoint(&self) -> Box<str> {
        let join = if self.service_address.starts_with("inet") { '@' } else { ':' };
        format!("{}{join}{}", self.service_address, self.service_port).into()
    }
}

/// `session/info/<id>`.
#[derive(Debug, Deserialize)]
pub struct Session<'a> {
    /// The node that holds it.
    #[serde(borrow, rename = "Node")]
    pub node: Cow<'a, str>,
}

/// The answer to a transaction.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Transaction<'a> {
    /// One for each operation, if it was done.
    #[serde(borrow, default)]
    pub results: Option<Vec<OpResult<'a>>>,
    /// What hindered it, if it was not.
    #[serde(default)]
    pub errors: Option<Vec<OpError>>,
}

/// One operation's result.
#[derive(Debug, Deserialize)]
pub struct OpResult<'a> {
    /// The entry as it is now.
    #[serde(borrow, rename = "KV")]
    pub kv: Option<KvEntry<'a>>,
}

/// Which operation hindered a transaction.
#[derive(Debug, Deserialize)]
pub struct OpError {
    /// Its index.
    #[serde(rename = "OpIndex")]
    pub op_index: usize,
}

/// Parses a whole body; the error is a text for the log.
pub fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Box<str>> {
    serde_json::from_slice(body).map_err(|error| format!("{error}").into())
}

/// The elements of a JSON array, one after another, so that a large answer is decoded in slices.
#[derive(Clone, Debug)]
pub struct Elements {
    body: Bytes,
    at: usize,
    begun: bool,
}

impl Elements {
    /// Of this body; an empty one and `null` have none.
    #[must_use]
    pub fn new(body: Bytes) -> Self {
        Self { body, at: 0, begun: false }
    }

    /// Parses the next element; `None` at the end of the array.
    ///
    /// # Errors
    ///
    /// A text for the log, where the body is not an array of such elements.
    pub fn next<'a, T: Deserialize<'a>>(&'a mut self) -> Option<Result<T, Box<str>>> {
        let text = &self.body[self.at..];
        let start = text.iter().position(|b| !b.is_ascii_whitespace());
        let Some(start) = start else {
            return self.begun.then(|| Err("the array does not end".into()));
        };
        let skip = match (text[start], self.begun) {
            (b'n', false) if text[start..].starts_with(b"null") => return None,
            (b']', true) => return None,
            (b'[', false) | (b',', true) => start + 1,
            _ => return Some(Err("not an array".into())),
        };
        self.begun = true;
        self.at += skip;
        let rest = &self.body[self.at..];
        if rest.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b']') {
            return None;
        }
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<T>();
        let value = values.next()?;
        self.at += values.byte_offset();
        Some(value.map_err(|error| format!("{error}").into()))
    }
}
