//! The replay of a journal: one machine receives the recorded inputs, under the rules that apply to a single
//! machine.

use hax_core::base::time::{Next, Now};
pub use hax_core::journal::JournalError;
use hax_core::machine::{Input, Machine, Output};

use super::owed::Owed;
use super::trace::{Hash, Trace};
use super::{Violation, rules};

/// The rules for one life of one machine, independent of its surroundings.
pub trait Alone<M: Machine> {
    /// Observes an input before the machine takes it.
    fn takes(&mut self, input: &Input);

    /// Checks the outputs of the last input.
    ///
    /// # Errors
    ///
    /// If a rule does not hold.
    fn gave(&mut self, now: u64, out: &[Output<M::Fact>], machine: &M) -> Result<(), Violation>;
}

/// The recorded inputs of a machine, one record after another.
pub type Records<'a> = Box<dyn Iterator<Item = Result<(Now, Input), JournalError>> + 'a>;

/// An opened journal.
pub struct Opened<'a, M: Machine> {
    /// The machine in its initial state.
    pub machine: M,
    /// The rules for it.
    pub alone: Box<dyn Alone<M>>,
    /// The recorded inputs.
    pub records: Records<'a>,
}

/// The result of a replay.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// The broken rule, if any.
    pub violation: Option<Violation>,
    /// The hash of all inputs and outputs.
    pub hash: Hash,
    /// The number of the machine's inputs.
    pub inputs: u64,
    /// The error at the end of the reading, if any.
    pub bad: Option<JournalError>,
    /// The last lines of the trace.
    pub lines: Vec<String>,
}

/// Replays a journal into a trace. The machine appears in the trace under `name`.
pub(super) fn replay<M: Machine>(opened: Opened<'_, M>, name: &str, mut trace: Trace) -> Replayed {
    let Opened { mut machine, mut alone, records } = opened;
    let mut replayed = Replayed::default();
    let (mut out, mut owed) = (Vec::new(), Owed::default());
    for record in records {
        let (now, input) = match record {
            Ok(record) => record,
            Err(bad) => {
                replayed.bad = Some(bad);
                break;
            }
        };
        let at = now.mono.as_micros();
        trace.input(at, name, 0, &input);
        alone.takes(&input);
        let result = owed.takes(&input);
        let next = machine.handle(now, input, &mut out);
        replayed.inputs += 1;
        let result = result
            .and_then(|()| rules::deadline_is_later(at, next))
            .and_then(|()| owed.gave(&out))
            .and_then(|()| alone.gave(at, &out, &machine));
        out.drain(..).for_each(|output| trace.output(at, name, 0, &output));
        replayed.violation = result.err();
        if replayed.violation.is_some() || next == Next::Exit {
            break;
        }
    }
    replayed.hash = trace.hash;
    replayed.lines = trace.lines.into();
    replayed
}
