//! What Consul's access control refuses us.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::time::Duration;

use crate::base::time::Instant;
use crate::bridge::continuation::Continuation;
use crate::machine::Named as _;

/// How long a refusal counts if nothing like it is asked again.
const STANDS: Duration = Duration::from_secs(60);

/// What Consul's access control refuses us, by what it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Refusals(BTreeMap<&'static str, (Instant, Box<str>)>);

impl Refusals {
    /// What a job asks for is refused, and why.
    pub(crate) fn refused(&mut self, at: Instant, job: Continuation, why: &str) {
        // What an HTTP client asks for once may never be asked again.
        if !matches!(
            job,
            Continuation::Report(..) | Continuation::Subscribe(..) | Continuation::Statistics(_)
        ) {
            self.0.insert(job.name(), (at, why.into()));
        }
    }

    /// What a job asks for is not refused.
    pub(crate) fn granted(&mut self, job: Continuation) {
        if !self.0.is_empty() {
            self.0.remove(job.name());
        }
    }

    /// What is refused now.
    pub(crate) fn now(&self, now: Instant) -> impl Iterator<Item = (&'static str, &str)> {
        let stand = self.0.iter().filter(move |(_, (at, _))| now < at.after(STANDS));
        stand.map(|(what, (_, why))| (*what, &**why))
    }
}
