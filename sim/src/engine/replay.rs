//! A journal once more: one machine, fed what it was fed, and the rules that hold for one alone.

use hax_core::base::time::{Next, Now};
pub use hax_core::journal::JournalError;
use hax_core::machine::{Input, Machine, Output};

use super::owed::Owed;
use super::trace::{Hash, Trace};
use super::{Violation, rules};

/// The rules that hold for one life of one machine, whatever surrounds it.
pub trait Alone<M: Machine> {
    /// It is about to take an input.
    fn takes(&mut self, input: &Input);

    /// This came of it.
    ///
    /// # Errors
    ///
    /// If a rule does not hold.
    fn gave(&mut self, now: u64, out: &[Output<M::Fact>], machine: &M) -> Result<(), Violation>;
}

/// What a machine was fed, one record after another.
pub type Records<'a> = Box<dyn Iterator<Item = Result<(Now, Input), JournalError>> + 'a>;

/// A journal that was opened.
pub struct Opened<'a, M: Machine> {
    /// The machine as it was at the beginning.
    pub machine: M,
    /// The rules that hold for it.
    pub alone: Box<dyn Alone<M>>,
    /// What it was fed.
    pub records: Records<'a>,
}

/// What came of a journal.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// The rule that was broken, if one was.
    pub violation: Option<Violation>,
    /// All inputs and outputs, as one number.
    pub hash: Hash,
    /// Inputs that were fed.
    pub inputs: u64,
    /// Why the journal could not be read further, if so.
    pub bad: Option<JournalError>,
    /// The last lines.
    pub lines: Vec<String>,
}

/// Replays a journal into a trace, in which the machine has this name.
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
