//! The end of a write at the Resource Manager, which may come after the reply.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use serde_json::Value;

use super::super::http::{Ask, Method, Place, Reply};
use super::super::said::{bounded, refusal};
use super::table::State;

/// The name of the requests, for messages.
pub(super) const WHAT: &str = "the operation of Azure";

/// The time before each look, unless Azure asks for another one.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest time before a look.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// The maximum length of an operation's path.
const TARGET_MAX: usize = 4_096;

/// The place at which the end of a write is to be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// A status with a word, from `Azure-AsyncOperation`.
    Status(String),
    /// A status code other than 202, from `Location`.
    Location(String),
}

/// Returns the operation that a write has begun, and the time before the first look. None if the write has
/// ended, or if its end is to be seen in the table only.
pub(super) fn begun(base: &str, reply: &Reply) -> Option<(Operation, Duration)> {
    // A reply must not direct requests with our token to another host.
    let own = |url: &str| {
        let target = url.strip_prefix(base).filter(|target| target.starts_with('/'))?;
        let is_plain = target.bytes().all(|byte| byte.is_ascii_graphic());
        (is_plain && target.len() <= TARGET_MAX).then(|| target.into())
    };
    let status = reply.header("azure-asyncoperation").and_then(own).map(Operation::Status);
    let location = || {
        let is_accepted = reply.status == 202;
        reply.header("location").filter(|_| is_accepted).and_then(own).map(Operation::Location)
    };
    Some((status.or_else(location)?, pause(reply)))
}

/// Returns the time that Azure asks to wait.
pub(super) fn pause(reply: &Reply) -> Duration {
    reply.retry_after().unwrap_or(PAUSE).min(PAUSE_MAX)
}

/// Returns the request for the state of an operation.
pub(super) fn look(operation: &Operation, after: Duration) -> Ask {
    let (Operation::Status(target) | Operation::Location(target)) = operation;
    Ask::new(WHAT, Place::Api, Method::Get, target.clone()).after(after)
}

/// Returns whether an operation has ended.
///
/// # Errors
///
/// The operation failed.
pub(super) fn has_ended(operation: &Operation, reply: &Reply) -> Result<bool, String> {
    match (operation, reply.status) {
        (_, 202) => Ok(false),
        (Operation::Location(_), 200 | 201 | 204) => Ok(true),
        (Operation::Status(_), 200) => {
            let value: Value = serde_json::from_slice(&reply.body)
                .map_err(|_| format!("{WHAT}: the reply has no status"))?;
            let name = value["status"].as_str().unwrap_or_default();
            match State::of(name) {
                State::Succeeded => Ok(true),
                State::Running => Ok(false),
                State::Failed => {
                    let text = |name: &str| value["error"][name].as_str().unwrap_or_default();
                    let said = format!("{}: {}", text("code"), text("message"));
                    Err(format!("{WHAT}: {name}: {}", bounded(&said)))
                }
            }
        }
        _ => Err(refusal(WHAT, reply)),
    }
}
