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
    /// What is known of the sender.
    pub trust: Trust,
}

/// What is known of the sender of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// Nothing: anyone who can reach the port. What is posted takes effect only when Consul has confirmed it.
    None,
    /// It has sent the request from an address of this node. Any user of the node can.
    Local,
    /// It has presented the token, or uses the local socket, which the operator opens to some users only.
    Authorized,
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
