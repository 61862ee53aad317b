//! The steps of a cloud's work.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use super::super::job::{Done, Job};
use super::http::{Ask, Reply};

/// The next step of the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sends this request. The reply is passed to [`Work::on_reply`].
    Ask(Box<Ask>),
    /// The work has ended.
    Over(Done),
}

impl From<Ask> for Step {
    fn from(ask: Ask) -> Self {
        Self::Ask(Box::new(ask))
    }
}

/// The work of one event.
pub trait Work {
    /// Returns the first step.
    fn begin(&mut self) -> Step;

    /// Handles the reply to the last request.
    ///
    /// # Errors
    ///
    /// The reason why the work cannot be done.
    fn on_reply(&mut self, reply: &Reply) -> Result<Step, String>;
}

/// The maximum number of attempts of a write when other writers write first.
pub(super) const TRIES: u32 = 4;

/// Returns the required parameter with this name.
pub(super) fn parameter<'a>(job: &'a Job, name: &str, flag: &str) -> Result<&'a str, String> {
    let value = job.parameters.get(name).map(|value| &**value);
    value.ok_or_else(|| format!("the node lacks {flag}"))
}
