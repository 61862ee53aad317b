//! The port between the bridge and whatever serves HTTP.

use alloc::boxed::Box;

use bytes::Bytes;

use crate::base::id::HttpId;

/// One complete request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Names it. Owed: exactly one [`Response`], or one [`Begin`](super::stream::Begin).
    pub id: HttpId,
    /// As sent: `GET`, `POST`, …
    pub method: Box<str>,
    /// Path and query, as sent.
    pub target: Box<str>,
    /// The whole body.
    pub body: Bytes,
    /// Whether it comes from an address of this node, or shows the token or certificate that hax
    /// demands. What others post is believed once Consul has confirmed it.
    pub trusted: bool,
}

/// Its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// To which request.
    pub id: HttpId,
    /// The HTTP status.
    pub status: u16,
    /// The value of `Content-Type`; none for an empty body.
    pub content_type: &'static str,
    /// The value of `Allow`, with a 405.
    pub allow: &'static str,
    /// The body.
    pub body: Bytes,
}
