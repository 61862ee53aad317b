//! Rules for the listeners of a counter's tally, and for its clients over named pipes.

use std::collections::BTreeMap;

use hax_core::base::id::HttpId;

use crate::engine::Violation;
use crate::fifo::{ClientId, PipeOutcome};
use crate::stream::StreamEvent;

/// The received numbers of each client.
#[derive(Debug, Default)]
pub(super) struct Received {
    open: BTreeMap<(usize, HttpId), Listener>,
    /// The highest received number of each machine.
    highest: BTreeMap<usize, u64>,
    /// The length of the request of each client over named pipes.
    asked: BTreeMap<ClientId, usize>,
}

#[derive(Debug, Default)]
struct Listener {
    last: Option<u64>,
    /// The beginning of an incomplete line.
    line: String,
}

impl Received {
    /// Checks that the numbers follow one another without a gap.
    pub(super) fn on_stream_event(
        &mut self,
        node: usize,
        of: HttpId,
        heard: &StreamEvent,
    ) -> Result<(), Violation> {
        let StreamEvent::Data(bytes) = heard else {
            self.open.remove(&(node, of));
            return Ok(());
        };
        let listener = self.open.entry((node, of)).or_default();
        listener.line.push_str(&String::from_utf8_lossy(bytes));
        while let Some((line, rest)) = listener.line.split_once('\n') {
            let number: Option<u64> = line.parse().ok();
            let follows = listener.last.is_none_or(|last| number == Some(last + 1));
            let Some(number) = number.filter(|_| follows) else {
                let text = format!("toy {node}: {of} hears {line:?} after {:?}", listener.last);
                return Violation::of("who listens hears each number, one after another", text);
            };
            listener.last = Some(number);
            listener.line = rest.to_owned();
            let highest = self.highest.entry(node).or_default();
            *highest = number.max(*highest);
        }
        Ok(())
    }

    /// Observes a client's request over named pipes.
    pub(super) fn on_request(&mut self, client: ClientId, bytes: usize) {
        self.asked.insert(client, bytes);
    }

    /// Checks that the client's answer belongs to its own request.
    pub(super) fn on_outcome(
        &mut self,
        node: usize,
        client: ClientId,
        outcome: &PipeOutcome,
    ) -> Result<(), Violation> {
        let asked = self.asked.remove(&client);
        let PipeOutcome::Answered(body) = outcome else { return Ok(()) };
        let text = String::from_utf8_lossy(body);
        let (bytes, number) = text.split_once(' ').unwrap_or((&text, "0"));
        let number: Option<u64> = number.parse().ok();
        let Some(number) = number.filter(|_| bytes.parse().ok() == asked) else {
            let text = format!("toy {node}: {client:?} asked with {asked:?} bytes: {text}");
            return Violation::of("who asks over pipes has the answer to its own request", text);
        };
        let highest = self.highest.entry(node).or_default();
        *highest = number.max(*highest);
        Ok(())
    }

    /// Checks that the highest received number is in the file.
    pub(super) fn check_file(&self, node: usize, found: Option<u64>) -> Result<(), Violation> {
        let highest = self.highest.get(&node).copied().filter(|number| *number > 0);
        if found >= highest {
            return Ok(());
        }
        let text = format!("toy {node}: {found:?}, and {highest:?} was heard");
        Violation::of("what is heard is in the file", text)
    }

    /// Checks that every listener has received all numbers.
    pub(super) fn check_rest(&self, node: usize, found: Option<u64>) -> Result<(), Violation> {
        let of_it = self.open.iter().filter(|((of, _), _)| *of == node);
        for ((_, name), Listener { last, .. }) in of_it {
            if *last != Some(found.unwrap_or(0)) {
                let text = format!("toy {node}: {name} heard {last:?} of {found:?}");
                return Violation::of("who listens has heard it all", text);
            }
        }
        Ok(())
    }
}
