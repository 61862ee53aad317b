//! The port between a machine and the host's HTTP client for Consul.

use alloc::boxed::Box;
use alloc::string::String;
use core::time::Duration;

use bytes::Bytes;

use crate::base::id::CallId;

/// A command for the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Sends a request. The host delivers exactly one [`Reply`] unless the call is cancelled before.
    Call(Box<Call>),
    /// Cancels a request: the host closes its connection and need not deliver a reply. A reply that is
    /// already on its way may still arrive.
    Cancel(CallId),
}

/// One request to Consul.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The id of the call.
    pub id: CallId,
    /// The HTTP method.
    pub method: Method,
    /// The path and query, for example `/v1/kv/leader?consistent`. The host adds scheme, authority and token.
    pub target: String,
    /// The request body; empty for GET.
    pub body: Bytes,
    /// The time limit from sending to the last byte of the response. The host reports
    /// [`Unanswered::TimedOut`] at its end.
    pub within: Duration,
    /// The maximum size of an accepted body, in bytes.
    pub body_max: usize,
}

/// The methods of Consul's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "HTTP's own words")]
pub enum Method {
    Get,
    Put,
    Delete,
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The id of the call.
    pub id: CallId,
    /// A response with any status, or none.
    pub result: Result<Answer, Unanswered>,
}

/// An HTTP response of Consul.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The value of `X-Consul-Index`; 0 if it is missing or not a number.
    pub index: u64,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// Returns whether Consul's access control denies the request: the token is unknown, or lacks the
    /// permission.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self.status, 401 | 403)
    }
}

/// The reason why there is no response. Whether the request took effect is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// No connection could be made.
    Refused,
    /// The connection broke before the response was complete.
    Broken,
    /// The time limit has passed.
    TimedOut,
    /// The response is larger than the caller accepts.
    TooLarge,
}

impl Unanswered {
    /// Returns a text for the log.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::Refused => "no connection",
            Self::Broken => "the connection broke",
            Self::TimedOut => "no answer in time",
            Self::TooLarge => "the answer is too large",
        }
    }
}
