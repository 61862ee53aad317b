//! The replay of a journal: one machine receives the recorded inputs, under the rules that apply to a single
//! machine.

use hax_core::base::fid::Fid;
use hax_core::base::time::{Next, Now};
use hax_core::bridge::config;
pub use hax_core::journal::JournalError;
use hax_core::machine::{Input, Machine, Output};
use hax_core::{journal, node, wire};

use super::pending::PendingAnswers;
use super::trace::{Hash, Trace};
use super::{Violation, rules};

/// The rules for one life of one machine, independent of its surroundings.
pub trait MachineRules<M: Machine> {
    /// Observes an input before the machine takes it.
    fn on_input(&mut self, input: &Input);

    /// Checks the outputs of the last input.
    ///
    /// # Errors
    ///
    /// If a rule does not hold.
    fn on_outputs(
        &mut self,
        now: u64,
        out: &[Output<M::Fact>],
        machine: &M,
    ) -> Result<(), Violation>;
}

/// The recorded inputs of a machine, one record after another.
pub type Records<'a> = Box<dyn Iterator<Item = Result<(Now, Input), JournalError>> + 'a>;

/// Begins the journal of a machine that is determined by the name of its node and its seed. A journal begins
/// with the configuration of a hax, of which such a machine needs no more.
pub(crate) fn begin_simple(name: &str, seed: u64) -> Vec<u8> {
    let addr = ([127, 0, 0, 1], 1).into();
    journal::begin(&node::Config {
        bridge: config::Config::new(Fid::default(), name, seed),
        wire: wire::Config::new(addr, seed, seed),
    })
}

/// The contents of a journal from [`begin_simple`].
pub(crate) struct Simple<'a> {
    pub(crate) name: Box<str>,
    pub(crate) seed: u64,
    pub(crate) records: Records<'a>,
}

/// Opens a journal that [`begin_simple`] has begun.
pub(crate) fn open_simple(journal: &[u8]) -> Result<Simple<'_>, JournalError> {
    let (config, records) = journal::open(journal)?;
    let node::Config { bridge, wire } = config;
    Ok(Simple { name: bridge.node, seed: wire.seed, records: Box::new(records) })
}

/// An opened journal.
pub struct Opened<'a, M: Machine> {
    /// The machine in its initial state.
    pub machine: M,
    /// The rules for it.
    pub rules: Box<dyn MachineRules<M>>,
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
    pub error: Option<JournalError>,
    /// The last lines of the trace.
    pub lines: Vec<String>,
}

/// Replays a journal into a trace. The machine appears in the trace under `name`.
pub(super) fn replay<M: Machine>(opened: Opened<'_, M>, name: &str, mut trace: Trace) -> Replayed {
    let Opened { mut machine, mut rules, records } = opened;
    let mut replayed = Replayed::default();
    let (mut out, mut pending) = (Vec::new(), PendingAnswers::default());
    for record in records {
        let (now, input) = match record {
            Ok(record) => record,
            Err(error) => {
                replayed.error = Some(error);
                break;
            }
        };
        let at = now.mono.as_micros();
        trace.input(at, name, 0, &input);
        rules.on_input(&input);
        let result = pending.on_input(&input);
        let next = machine.handle(now, input, &mut out);
        replayed.inputs += 1;
        let result = result
            .and_then(|()| rules::deadline_is_later(at, next))
            .and_then(|()| pending.on_outputs(&out))
            .and_then(|()| rules.on_outputs(at, &out, &machine));
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
