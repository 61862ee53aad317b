//! The port between the bridge and whatever carries HTTP to Consul.

use alloc::boxed::Box;
use alloc::string::String;
use core::time::Duration;

use bytes::Bytes;

use crate::base::id::CallId;

/// What the host is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Sends a request. Owed: exactly one [`Reply`], unless it is cancelled before.
    Call(Box<Call>),
    /// Gives a request up: its connection is closed, no reply is owed any more (one that is on its
    /// way already may still come).
    Cancel(CallId),
}

/// One request to Consul.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Names it.
    pub id: CallId,
    /// GET, PUT or DELETE.
    pub method: Method,
    /// Path and query, for example `/v1/kv/leader?consistent`. The host adds scheme, authority and
    /// token.
    pub target: String,
    /// Empty for GET.
    pub body: Bytes,
    /// The time limit from sending to the last byte of the answer; the host reports
    /// [`Unanswered::TimedOut`] when it is over.
    pub within: Duration,
    /// The longest body that is accepted, in bytes.
    pub body_max: usize,
}

/// The methods that Consul's API uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "HTTP's own words")]
pub enum Method {
    Get,
    Put,
    Delete,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Of which.
    pub id: CallId,
    /// An answer, whatever its status, or none.
    pub result: Result<Answer, Unanswered>,
}

/// An HTTP response of Consul.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `X-Consul-Index`; 0 if there was none or it was no number.
    pub index: u64,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// Whether Consul's access control refuses what was asked: an unknown token, or one without the right.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self.status, 401 | 403)
    }
}

/// Why there is no answer. Whether Consul acted is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// No connection could be made.
    Refused,
    /// The connection broke before the answer was complete.
    Broken,
    /// The time limit is over.
    TimedOut,
    /// The answer is longer than the caller accepts.
    TooLarge,
}

impl Unanswered {
    /// A text for the log.
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
