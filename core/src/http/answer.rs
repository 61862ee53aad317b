//! Typed answers, and the old daemon's shape of errors.

use alloc::boxed::Box;
use alloc::string::String;

use bytes::Bytes;
use serde_json::json;

use super::port::Response;
use crate::base::id::HttpId;

/// What a request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// What is allowed, with a 405.
    pub allow: &'static str,
    /// The body, JSON or empty.
    pub body: String,
    /// Why it is a refusal, for the log.
    pub reason: Box<str>,
}

impl Answer {
    /// Done; there is nothing to say.
    #[must_use]
    pub fn done() -> Self {
        Self::new(200, String::new())
    }

    /// A text or JSON.
    #[must_use]
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, allow: "", body: body.into(), reason: "".into() }
    }

    /// A refusal in the old daemon's shape (`hax.md` 1.1, `encode_exception`).
    #[must_use]
    pub fn refuse(status: u16, kind: &str, message: &str, reason: &str) -> Self {
        let body = json!({
            "status_code": status, "error_message": message, "error_type": kind, "reason": reason,
        });
        Self { reason: reason.into(), ..Self::new(status, alloc::format!("{body}")) }
    }

    /// The refusal of a method that a path does not have.
    #[must_use]
    pub fn not_allowed(allow: &'static str) -> Self {
        let why = "This path knows other methods";
        Self { allow, ..Self::refuse(405, "HTTPMethodNotAllowed", allow, why) }
    }

    /// There is nothing at a path.
    #[must_use]
    pub fn not_found(path: &str) -> Self {
        Self::refuse(404, "HTTPNotFound", path, "There is nothing at this path")
    }

    /// The refusal of a bridge that stops.
    #[must_use]
    pub fn stopping() -> Self {
        Self::refuse(503, "HTTPServiceUnavailable", "", "hax is stopping")
    }

    /// The refusal of a bridge that does not know the cluster yet.
    #[must_use]
    pub fn not_ready() -> Self {
        let why = "hax is not ready: /readyz says what it waits for";
        Self::refuse(503, "HTTPServiceUnavailable", "", why)
    }

    /// The response to `id`.
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
