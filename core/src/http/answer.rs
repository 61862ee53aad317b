//! Typed responses, and the old daemon's format of errors.

use alloc::boxed::Box;
use alloc::string::String;

use bytes::Bytes;
use serde_json::json;

use super::port::Response;
use crate::base::id::HttpId;

/// The response to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The allowed methods, with a 405.
    pub allow: &'static str,
    /// The body, JSON or empty.
    pub body: String,
    /// The reason of a refusal, for the log.
    pub reason: Box<str>,
}

impl Answer {
    /// Returns a response without a body after success.
    #[must_use]
    pub fn done() -> Self {
        Self::new(200, String::new())
    }

    /// Returns a response with a text or JSON.
    #[must_use]
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, allow: "", body: body.into(), reason: "".into() }
    }

    /// Returns a refusal in the old daemon's format (`hax.md` 1.1, `encode_exception`).
    #[must_use]
    pub fn refuse(status: u16, kind: &str, message: &str, reason: &str) -> Self {
        let body = json!({
            "status_code": status, "error_message": message, "error_type": kind, "reason": reason,
        });
        Self { reason: reason.into(), ..Self::new(status, alloc::format!("{body}")) }
    }

    /// Returns the refusal of an unsupported method of a path.
    #[must_use]
    pub fn not_allowed(allow: &'static str) -> Self {
        let why = "This path knows other methods";
        Self { allow, ..Self::refuse(405, "HTTPMethodNotAllowed", allow, why) }
    }

    /// Returns the refusal of an unknown path.
    #[must_use]
    pub fn not_found(path: &str) -> Self {
        Self::refuse(404, "HTTPNotFound", path, "There is nothing at this path")
    }

    /// Returns the refusal of a stopping bridge.
    #[must_use]
    pub fn stopping() -> Self {
        Self::refuse(503, "HTTPServiceUnavailable", "", "hax is stopping")
    }

    /// Returns the refusal of a bridge before its replicas are loaded.
    #[must_use]
    pub fn not_ready() -> Self {
        let why = "hax is not ready: /readyz says what it waits for";
        Self::refuse(503, "HTTPServiceUnavailable", "", why)
    }

    /// Returns the response to the request `id`.
    #[must_use]
    pub fn response(self, id: HttpId) -> Response {
        let Self { status, allow, body, .. } = self;
        let content_type = if body.is_empty() { "" } else { "application/json; charset=utf-8" };
        Response {
            id,
            status,
            content_type,
            allow,
            body: Bytes::from(Box::<str>::from(body).into_boxed_bytes().into_vec()),
        }
    }
}
