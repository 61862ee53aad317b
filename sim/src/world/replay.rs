//! A journal once more: one node, fed what it was fed, and the rules that hold for one alone.

use hax_core::base::time::Next;
use hax_core::consul::port;
use hax_core::journal::{self, Bad};
use hax_core::machine::Machine as _;
use hax_core::node::{Input, Node, Output};

use super::Violation;
use super::oracle::Alone;
use super::trace::{self, Trace};

/// What came of a journal.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The rule that was broken, if one was.
    pub violation: Option<Violation>,
    /// All inputs and outputs, as one number.
    pub hash: trace::Hash,
    /// Inputs that were fed.
    pub inputs: u64,
    /// Why the journal could not be read further, if so.
    pub bad: Option<Bad>,
    /// The last lines.
    pub lines: Vec<String>,
}

/// Replays a journal and keeps so many of the last lines.
///
/// # Errors
///
/// If it is no journal.
pub fn replay(journal: &[u8], lines: usize) -> Result<Replayed, Bad> {
    let (config, records) = journal::open(journal)?;
    let mut alone = Alone::new(&config);
    let mut node = Node::new(config);
    let mut trace = Trace { keep: lines, ..Trace::default() };
    let mut replayed = Replayed {
        violation: None,
        hash: trace::Hash::default(),
        inputs: 0,
        bad: None,
        lines: Vec::new(),
    };
    let mut out = Vec::new();
    for record in records {
        let (now, input) = match record {
            Ok(record) => record,
            Err(bad) => {
                replayed.bad = Some(bad);
                break;
            }
        };
        let at = now.mono.as_micros();
        trace.input(at, 0, &input);
        let request = match &input {
            Input::Http(request) => Some(request.id),
            _ => None,
        };
        if let Input::Consul(port::Reply { id, .. }) = &input {
            alone.replied(*id);
        }
        if let Input::Spiel(reply) = &input {
            alone.library_answered(reply);
        }
        let next = node.handle(now, input, &mut out);
        replayed.inputs += 1;
        let mut result = alone.step(at, request, &out, next, &node);
        for output in out.drain(..) {
            trace.output(at, 0, &output);
            if let Output::Fact(fact) = &output {
                result = result.and_then(|()| alone.fact(at, fact));
            }
        }
        if let Err(violation) = result {
            replayed.violation = Some(violation);
            break;
        }
        if next == Next::Exit {
            break;
        }
    }
    replayed.hash = trace.hash;
    replayed.lines = trace.lines.into();
    Ok(replayed)
}
