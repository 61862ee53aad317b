//! Consul's JSON, borrowed from the response's body where possible (Consul API: KV, Health, Catalog, Session,
//! Transactions).

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
    /// The value in base64; `null` for an empty value.
    #[serde(borrow)]
    pub value: Option<Cow<'a, str>>,
    /// The index of the last change.
    pub modify_index: u64,
    /// A number stored with the value, for the writer's own use.
    #[serde(default)]
    pub flags: u64,
    /// The session holding the key's lock.
    #[serde(borrow, default)]
    pub session: Option<Cow<'a, str>>,
}

impl KvEntry<'_> {
    /// Returns the value's bytes; `None` if the value is not base64.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        STANDARD.decode(self.value.as_deref().unwrap_or("")).ok()
    }

    /// Returns the value as a decimal number, ignoring surrounding space; `None` if it is not a number.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        let value = self.bytes()?;
        core::str::from_utf8(&value).ok()?.trim().parse().ok()
    }
}

/// Returns bytes in the encoding of Consul's JSON.
#[must_use]
pub fn base64(bytes: &[u8]) -> alloc::string::String {
    STANDARD.encode(bytes)
}

/// A check from `health/state/any` or from a watch's payload.
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
    #[serde(borrow, default)]
    pub service_name: Cow<'a, str>,
    #[serde(default)]
    pub modify_index: u64,
}

/// An instance from `catalog/service/<name>`.
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

/// The metadata of a service, as registered by hare.
#[derive(Debug, Default, Deserialize)]
pub struct Meta<'a> {
    /// The port of a hax's HTTP server.
    #[serde(borrow, default)]
    pub http_port: Option<Cow<'a, str>>,
}

impl Instance<'_> {
    /// Returns the endpoint. hare splits it into address and port. They are joined by `@` for `inet:…` names,
    /// and by `:` for LNet's (hare `util.mkServiceData`).
    #[must_use]
    pub fn endpoint(&self) -> Box<str> {
        let join = if self.service_address.starts_with("inet") { '@' } else { ':' };
        format!("{}{join}{}", self.service_address, self.service_port).into()
    }
}

/// The response of `session/info/<id>`.
#[derive(Debug, Deserialize)]
pub struct Session<'a> {
    /// The node of the session.
    #[serde(borrow, rename = "Node")]
    pub node: Cow<'a, str>,
}

/// The response to a transaction.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Transaction<'a> {
    /// The results, one per operation, if the transaction was committed.
    #[serde(borrow, default)]
    pub results: Option<Vec<OpResult<'a>>>,
    /// The errors, if the transaction was rejected.
    #[serde(borrow, default)]
    pub errors: Option<Vec<OpError<'a>>>,
}

/// The result of one operation.
#[derive(Debug, Deserialize)]
pub struct OpResult<'a> {
    /// The entry after the operation.
    #[serde(borrow, rename = "KV")]
    pub kv: Option<KvEntry<'a>>,
}

/// The error of one operation.
#[derive(Debug, Deserialize)]
pub struct OpError<'a> {
    /// The index of the operation.
    #[serde(rename = "OpIndex")]
    pub op_index: usize,
    /// Consul's error text.
    #[serde(borrow, rename = "What", default)]
    pub what: Cow<'a, str>,
}

impl OpError<'_> {
    /// Returns the reason if the error is not a conflict with another writer but a denial by access control.
    #[must_use]
    pub fn refusal(&self) -> Option<Box<str>> {
        let what = &*self.what;
        let refused = what.contains("ermission denied") || what.contains("ACL");
        refused.then(|| format!("{what}: the token may not do this").into())
    }
}

/// Parses a whole body; the error is a text for the log.
pub fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Box<str>> {
    serde_json::from_slice(body).map_err(|error| format!("{error}").into())
}

/// The error for a truncated body.
const CUT: &str = "the array does not end";

/// The elements of a JSON array, one after another, so that a large response is decoded in slices.
#[derive(Clone, Debug)]
pub struct Elements {
    body: Bytes,
    at: usize,
    begun: bool,
}

impl Elements {
    /// Creates an iterator over this body; `null` has no elements.
    #[must_use]
    pub fn new(body: Bytes) -> Self {
        Self { body, at: 0, begun: false }
    }

    /// Parses the next element; `None` at the end of the array.
    ///
    /// # Errors
    ///
    /// A text for the log if the body is not one complete array of such elements.
    pub fn next<'a, T: Deserialize<'a>>(&'a mut self) -> Option<Result<T, Box<str>>> {
        match self.advance() {
            Err(why) => return Some(Err(why.into())),
            Ok(false) => return None,
            Ok(true) => {}
        }
        let mut values = serde_json::Deserializer::from_slice(&self.body[self.at..]).into_iter();
        let Some(value) = values.next() else { return Some(Err(CUT.into())) };
        self.at += values.byte_offset();
        Some(value.map_err(|error: serde_json::Error| format!("{error}").into()))
    }

    /// Advances to the next element; returns `false` if there is none.
    fn advance(&mut self) -> Result<bool, &'static str> {
        match (self.begun, self.take()) {
            (_, None) => Err(CUT),
            (false, Some(b'n')) if self.body[self.at..].starts_with(b"ull") => {
                self.at += 3;
                self.end()
            }
            (false, Some(b'[')) => {
                self.begun = true;
                let first = self.at;
                if self.take() == Some(b']') {
                    return self.end();
                }
                self.at = first;
                Ok(true)
            }
            (true, Some(b',')) => Ok(true),
            (true, Some(b']')) => self.end(),
            _ => Err("not an array"),
        }
    }

    /// Returns the next non-space byte.
    fn take(&mut self) -> Option<u8> {
        let rest = &self.body[self.at..];
        let at = rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
        self.at += at + 1;
        Some(rest[at])
    }

    fn end(&mut self) -> Result<bool, &'static str> {
        if self.take().is_some() { Err("something follows the array") } else { Ok(false) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Result<Vec<u8>, Box<str>> {
        let mut elements = Elements::new(Bytes::from_static(text.as_bytes()));
        core::iter::from_fn(|| elements.next::<u8>()).take(9).collect()
    }

    #[test]
    fn an_array_is_read_to_its_end_or_not_at_all() {
        assert_eq!(read("[]"), Ok(Vec::new()));
        assert_eq!(read(" [ ] \n"), Ok(Vec::new()));
        assert_eq!(read("null"), Ok(Vec::new()));
        assert_eq!(read("[ 1 , 2,3 ] "), Ok([1, 2, 3].into()));
        let cut = ["", " ", "[", "[1", "[1,", "[1, ", "[1,2"];
        let wrong =
            ["nul", "nullx", "{}", "1", "[,1]", "[1,]", "[1 2]", "[1][", "[]]", "[] x", "[1]]"];
        for text in cut.into_iter().chain(wrong) {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
