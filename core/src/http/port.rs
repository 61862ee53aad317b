//! The port between a machine and the host's HTTP server.

use alloc::boxed::Box;

use bytes::Bytes;

use crate::base::id::HttpId;

/// One complete request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The id of the request. The machine must emit exactly one [`Response`] or one
    /// [`Begin`](super::stream::Begin) to it.
    pub id: HttpId,
    /// The method as sent: `GET`, `POST`, …
    pub method: Box<str>,
    /// The path and query as sent.
    pub target: Box<str>,
    /// The whole body.
    pub body: Bytes,
    /// Whether the request comes from an address of this node, or presents the demanded token or certificate.
    /// A post of another sender takes effect only when Consul has confirmed it.
    pub trusted: bool,
}

/// The response to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The id of the request.
    pub id: HttpId,
    /// The HTTP status.
    pub status: u16,
    /// The value of `Content-Type`; empty for an empty body.
    pub content_type: &'static str,
    /// The value of `Allow`, with a 405.
    pub allow: &'static str,
    /// The body.
    pub body: Bytes,
}
