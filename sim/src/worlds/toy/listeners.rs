//! The listeners of the tally. Each receives its current number and all later ones, one a line, and at most a
//! few numbers in one response.

use std::collections::BTreeMap;

use hax_core::base::id::HttpId;
use hax_core::http::answer::Answer;
use hax_core::http::stream::{Begin, Closed, Command, Why};
use hax_core::machine::Output;

use super::bug::Bug;
use super::context::Cx;
use super::fact::Fact;

/// The maximum number of listeners.
pub(super) const LISTENERS: usize = 4;
/// The number of numbers in one response.
const NUMBERS: u32 = 8;

/// All listeners, each with the count of its numbers so far.
#[derive(Debug)]
pub(super) struct Listeners {
    open: BTreeMap<HttpId, u32>,
    bug: Option<Bug>,
}

impl Listeners {
    pub(super) fn new(bug: Option<Bug>) -> Self {
        Self { open: BTreeMap::new(), bug }
    }

    /// Returns the number of listeners.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Adds a listener. Its first number is this one.
    pub(super) fn begin(&mut self, cx: &mut Cx<'_>, id: HttpId, number: u64) {
        if self.open.len() == LISTENERS {
            cx.emit(Output::Fact(Fact::Crowded {}));
            return cx.http(id, Answer::new(503, ""));
        }
        cx.emit(Output::Fact(Fact::Listened {}));
        let begin = Begin { id, status: 200, content_type: "text/plain" };
        cx.emit(Command::Begin(begin));
        self.open.insert(id, 0);
        self.tell_one(cx, id, number);
    }

    /// Sends the new number of the tally to all listeners.
    pub(super) fn tell(&mut self, cx: &mut Cx<'_>, number: u64) {
        if self.bug == Some(Bug::NumberLeftOut) && number.is_multiple_of(3) {
            return;
        }
        let ids: Vec<HttpId> = self.open.keys().copied().collect();
        ids.into_iter().for_each(|id| self.tell_one(cx, id, number));
    }

    fn tell_one(&mut self, cx: &mut Cx<'_>, id: HttpId, number: u64) {
        let Some(told) = self.open.get_mut(&id).filter(|told| **told < NUMBERS) else { return };
        *told += 1;
        cx.emit(Command::Chunk { id, bytes: format!("{number}\n").into() });
        if *told == NUMBERS {
            cx.emit(Command::End { id });
        }
    }

    /// Removes a listener after its response is closed. A listener with all its numbers stays until then.
    pub(super) fn on_closed(&mut self, cx: &mut Cx<'_>, closed: Closed) {
        if self.bug != Some(Bug::ListenerKept) {
            self.open.remove(&closed.id);
        }
        cx.emit(Output::Fact(match closed.why {
            Why::Ended => Fact::ListenerDone {},
            Why::Client => Fact::ListenerGone {},
            Why::Slow => Fact::ListenerSlow {},
            Why::TooMany => Fact::ListenerRefused {},
        }));
    }

    /// Ends the responses of all listeners.
    pub(super) fn end(&mut self, cx: &mut Cx<'_>) {
        for (id, told) in &mut self.open {
            if *told < NUMBERS {
                *told = NUMBERS;
                cx.emit(Command::End { id: *id });
            }
        }
    }
}
