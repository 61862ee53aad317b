//! The signature of AWS, version 4: the texts that are hashed and signed. The event handler has the hash
//! functions and the key.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::http::{Ask, encode};

/// The algorithm's name.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The scope of a signature. Its parts are also the inputs from which the signing key is derived, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope<'a> {
    /// The time, as `20150830T123600Z`.
    pub time: &'a str,
    /// The region.
    pub region: &'a str,
    /// The service.
    pub service: &'a str,
}

impl Scope<'_> {
    /// Returns the parts: the day, the region, the service, and a fixed word.
    #[must_use]
    pub fn parts(&self) -> [&str; 4] {
        let day = self.time.get(..8).unwrap_or(self.time);
        [day, self.region, self.service, "aws4_request"]
    }
}

/// The canonical form of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical {
    /// The text. Its hash is signed.
    pub text: String,
    /// The names of the signed header fields.
    pub signed: String,
}

/// Returns the canonical form of a request whose body has this hash, in lower-case hexadecimal digits. The
/// header fields of the request and the given ones are signed.
#[must_use]
pub fn canonical(ask: &Ask, more: &[(&str, &str)], body_hash: &str) -> Canonical {
    let (path, query) = ask.target.split_once('?').unwrap_or((&ask.target, ""));
    let mut query: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    query.sort_unstable();
    let query: Vec<String> = query
        .into_iter()
        .map(|pair| if pair.contains('=') { pair.into() } else { format!("{pair}=") })
        .collect();
    let mut headers: Vec<(&str, String)> = ask
        .headers
        .iter()
        .map(|(name, value)| (*name, &**value))
        .chain(more.iter().copied())
        .map(|(name, value)| (name, value.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect();
    headers.sort();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let signed = names.join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let method = ask.method.name();
    let query = query.join("&");
    let text = format!("{method}\n{}\n{query}\n{lines}\n{signed}\n{body_hash}", encode_path(path));
    Canonical { text, signed }
}

/// Encodes a path a second time, as all services but S3 expect.
fn encode_path(path: &str) -> String {
    let segments: Vec<String> = path.split('/').map(encode).collect();
    segments.join("/")
}

/// Returns the text that is signed, from the hash of the canonical form.
#[must_use]
pub fn to_sign(scope: &Scope<'_>, canonical_hash: &str) -> String {
    let time = scope.time;
    format!("{ALGORITHM}\n{time}\n{}\n{canonical_hash}", scope.parts().join("/"))
}

/// Returns the value of the header field `authorization`.
#[must_use]
pub fn authorization(key: &str, scope: &Scope<'_>, signed: &str, signature: &str) -> String {
    let scope = scope.parts().join("/");
    format!("{ALGORITHM} Credential={key}/{scope}, SignedHeaders={signed}, Signature={signature}")
}
