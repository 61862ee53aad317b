//! The refusals of requests.

use crate::http::answer::Answer;

/// Returns a refusal of a request, with the reason for the requester and for the log.
pub(super) fn refuse(status: u16, reason: &str) -> Answer {
    let kind = match status {
        400 => "HTTPBadRequest",
        403 => "HTTPForbidden",
        404 => "HTTPNotFound",
        409 => "HTTPConflict",
        413 => "HTTPRequestEntityTooLarge",
        504 => "HTTPGatewayTimeout",
        _ => "HTTPServiceUnavailable",
    };
    Answer::refuse(status, kind, reason, reason)
}
