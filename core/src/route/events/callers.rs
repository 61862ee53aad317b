//! The clients that wait for the end of events.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use super::super::context::Cx;
use super::super::node::Index;
use super::super::request::{Answer, exit};
use crate::base::id::FifoId;

/// The maximum number of waiting clients. The pipes serve 256 at a time, so others get their answers
/// meanwhile.
pub(super) const CALLERS_MAX: usize = 192;

/// The id of a waiting client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallerId(u64);

/// The table of waiting clients. See the module.
#[derive(Debug, Default)]
pub(super) struct Callers {
    calls: BTreeMap<CallerId, Caller>,
    next: CallerId,
}

/// An event that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended<'a> {
    pub(super) index: Index,
    pub(super) event: &'static str,
    pub(super) result: &'a Result<String, String>,
}

/// A client that waits for the events of one or more redundancy nodes.
#[derive(Debug)]
struct Caller {
    client: FifoId,
    left: usize,
    has_failed: bool,
    text: String,
}

impl Callers {
    /// Returns whether no further client can wait.
    pub(super) fn is_full(&self) -> bool {
        self.calls.len() >= CALLERS_MAX
    }

    /// Adds a client that waits for `left` events.
    pub(super) fn add(&mut self, client: FifoId, left: usize) -> CallerId {
        let id = self.next;
        self.next.0 += 1;
        self.calls.insert(id, Caller { client, left, has_failed: false, text: String::new() });
        id
    }

    /// Records the end of an event. The reply is sent to a client that waits for no further event.
    pub(super) fn on_ended(&mut self, cx: &mut Cx<'_>, callers: &[CallerId], ended: Ended<'_>) {
        let Ended { index, event, result } = ended;
        for id in callers {
            let Some(caller) = self.calls.get_mut(id) else { continue };
            caller.left -= 1;
            caller.has_failed |= result.is_err();
            let line = match result {
                Ok(detail) => format!("node {index}: {event}: {detail}\n"),
                Err(why) => format!("node {index}: {event} failed: {why}\n"),
            };
            caller.text.push_str(&line);
            if caller.left > 0 {
                continue;
            }
            if let Some(Caller { client, has_failed, text, .. }) = self.calls.remove(id) {
                let exit = if has_failed { exit::EVENT } else { exit::OK };
                cx.answer(client, &Answer { exit, text: text.trim_end().into() });
            }
        }
    }
}
