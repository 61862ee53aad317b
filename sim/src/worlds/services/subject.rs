//! The machine under test, and its plantable bugs.

use hax_core::base::mutant::Mutant as Inside;
use hax_core::base::time::{Next, Now};
use hax_core::keeper::request::Ask;
use hax_core::machine::{ExitReason, Input, Machine, Output, Status};
use hax_core::services::facts::ServicesFact;
use hax_core::services::{Config, Services};

/// A bug in a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// After its exit the machine requests more.
    SpeaksAfterExit,
    /// Now and then a response is not sent.
    ResponseLost,
    /// Now and then a response is sent twice.
    ResponseTwice,
    /// Now and then a stop does not reach the keeper.
    StopLost,
    /// A planted bug in the core.
    Inside(Inside),
}

impl Bug {
    /// The bugs between the machine and its host.
    const OUTSIDE: [Self; 4] =
        [Self::SpeaksAfterExit, Self::ResponseLost, Self::ResponseTwice, Self::StopLost];

    /// Returns all bugs. Those in the core need the feature `mutants`.
    pub fn all() -> impl Iterator<Item = Self> {
        let inside = if cfg!(feature = "mutants") { Inside::OF_SERVICES } else { &[] };
        Self::OUTSIDE.into_iter().chain(inside.iter().copied().map(Self::Inside))
    }
}

/// Plants a bug in the core, or removes it.
pub(super) fn plant(bug: Option<Bug>) {
    #[cfg(feature = "mutants")]
    hax_core::base::mutant::plant(match bug {
        Some(Bug::Inside(inside)) => Some(inside),
        _ => None,
    });
    #[cfg(not(feature = "mutants"))]
    let _ = bug;
}

/// The machine. A planted bug sits between the machine and its host.
#[derive(Debug)]
pub struct Subject {
    services: Services,
    bug: Option<Bug>,
    /// The number of the bug's opportunities so far.
    turns: u64,
}

impl Subject {
    /// Creates a machine before its first input.
    #[must_use]
    pub fn new(config: Config, bug: Option<Bug>) -> Self {
        Self { services: Services::new(config), bug, turns: 0 }
    }

    /// Returns whether this node has the recovery coordinator, as far as it knows.
    #[must_use]
    pub fn coordinates(&self) -> bool {
        self.services.coordinates()
    }
}

impl Subject {
    /// Replaces the outputs with a bug.
    fn misbehave(&mut self, bug: Bug, out: &mut Vec<Output<ServicesFact>>) {
        let is_it = |output: &Output<ServicesFact>| match output {
            Output::Http(_) => matches!(bug, Bug::ResponseLost | Bug::ResponseTwice),
            Output::Keeper(command) => {
                bug == Bug::StopLost && matches!(command.ask, Ask::Stop { .. })
            }
            _ => false,
        };
        let Some(at) = out.iter().position(is_it) else { return };
        self.turns += 1;
        if !self.turns.is_multiple_of(3) {
            return;
        }
        match &out[at] {
            Output::Http(response) if bug == Bug::ResponseTwice => {
                let again = Output::Http(response.clone());
                out.push(again);
            }
            _ => drop(out.remove(at)),
        }
    }
}

impl Machine for Subject {
    type Fact = ServicesFact;

    const GAUGES: &'static [hax_core::base::fact::Metric] = Services::GAUGES;

    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output<ServicesFact>>) -> Next {
        let next = self.services.handle(now, input, out);
        if let Some(bug) = self.bug {
            self.misbehave(bug, out);
        }
        next
    }

    fn blocking_queries(&self) -> usize {
        self.services.blocking_queries()
    }

    fn gauges(&self) -> impl Iterator<Item = u64> {
        self.services.gauges()
    }

    fn status(&self) -> Status {
        self.services.status()
    }

    fn exit(&self) -> ExitReason {
        self.services.exit()
    }
}
