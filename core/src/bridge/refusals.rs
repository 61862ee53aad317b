//! Requests denied by Consul's access control.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::time::Duration;

use crate::base::time::Instant;
use crate::bridge::continuation::Continuation;
use crate::machine::Named as _;

/// The time limit of a refusal without a similar request.
const REPORTED_FOR: Duration = Duration::from_secs(60);

/// The denied requests by their subject.
#[derive(Debug, Default)]
pub(crate) struct Refusals(BTreeMap<&'static str, (Instant, Box<str>)>);

impl Refusals {
    /// Records a denied request and the reason.
    pub(crate) fn refused(&mut self, at: Instant, job: Continuation, why: &str) {
        // A request on behalf of an HTTP client may never be repeated, so its refusal is not recorded.
        if !matches!(
            job,
            Continuation::Report(..) | Continuation::Subscribe(..) | Continuation::Statistics(_)
        ) {
            self.0.insert(job.name(), (at, why.into()));
        }
    }

    /// Removes the record after a request was permitted.
    pub(crate) fn granted(&mut self, job: Continuation) {
        if !self.0.is_empty() {
            self.0.remove(job.name());
        }
    }

    /// Returns the currently denied requests.
    pub(crate) fn now(&self, now: Instant) -> impl Iterator<Item = (&'static str, &str)> {
        let stand = self.0.iter().filter(move |(_, (at, _))| now < at.after(REPORTED_FOR));
        stand.map(|(what, (_, why))| (*what, &**why))
    }
}
