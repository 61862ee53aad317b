//! Blocking queries: Consul responds when the requested data has changed (Consul API, "Blocking Queries").

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use bytes::Bytes;

use crate::base::id::CallId;
use crate::base::retry::Backoff;
use crate::consul::port::{Answer, Method};
use crate::machine::{Cx, Kinds};

/// Sends a blocking query for `target`. Consul responds at an index beyond `index`, or after `wait`.
pub fn send<K: Kinds>(
    cx: &mut Cx<'_, K>,
    call: K::Continuation,
    target: &str,
    index: u64,
    wait: Duration,
) -> CallId {
    // Consul holds a query for the wait and up to a sixteenth more.
    let within = wait + wait / 16 + cx.call_limit();
    let mark = if target.contains('?') { '&' } else { '?' };
    let target = format!("{target}{mark}index={index}&wait={}s", wait.as_secs());
    cx.call(call, Method::Get, target, Bytes::new(), within)
}

/// A sequence of blocking queries for one target.
#[derive(Debug)]
pub struct Watch {
    /// The target without an index. A `?stale` query is answered by the server that the agent contacts, even
    /// while the servers have no leader, and up to 0.1 s later than by the leader.
    target: String,
    index: u64,
    in_flight: bool,
    has_nothing_new: bool,
    backoff: Backoff,
}

impl Watch {
    /// Creates a watch without sending a query.
    #[must_use]
    pub fn new(target: String) -> Self {
        let (in_flight, has_nothing_new) = (false, false);
        Self { target, index: 0, in_flight, has_nothing_new, backoff: Backoff::default() }
    }

    /// Sends the next query, unless one is in flight. The first response comes at once.
    pub fn send<K: Kinds>(&mut self, cx: &mut Cx<'_, K>, call: K::Continuation, wait: Duration) {
        if !core::mem::replace(&mut self.in_flight, true) {
            send(cx, call, &self.target, self.index, wait);
        }
    }

    /// Handles the reply to the query.
    ///
    /// Returns `None` if there is no usable response; the timer `again` is armed for the next query then.
    /// Otherwise the next query may be sent. A response may be the same as the one before.
    pub fn on_answer<'r, K: Kinds>(
        &mut self,
        cx: &mut Cx<'_, K>,
        again: K::Timer,
        answer: Option<&'r Answer>,
    ) -> Option<&'r Answer> {
        self.in_flight = false;
        // Without an index the next query would not block.
        let usable = |answer: &&Answer| matches!(answer.status, 200 | 404) && answer.index > 0;
        let Some(answer) = answer.filter(usable) else {
            cx.retry(again, &mut self.backoff);
            return None;
        };
        self.backoff.reset();
        self.has_nothing_new = answer.index == self.index;
        // After an index that goes backwards, the watch starts from scratch.
        self.index = if answer.index < self.index { 0 } else { answer.index };
        Some(answer)
    }

    /// Returns whether the last response had the index of the one before: the wait is over, or Consul has ended the
    /// query, as it does when a snapshot is restored. The restored data may have reached the very same index, so
    /// this is a reason to read again, after a pause.
    #[must_use]
    pub fn has_nothing_new(&self) -> bool {
        self.has_nothing_new
    }

    /// Starts from scratch: the response to the next query comes at once.
    pub fn restart(&mut self) {
        self.index = 0;
    }

    /// Records that the query in flight was cancelled: the next one may be sent.
    pub fn cancelled(&mut self) {
        self.in_flight = false;
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use alloc::vec::Vec;

    use super::*;
    use crate::base::time::Now;
    use crate::consul::port::Command;
    use crate::http::port::Response;
    use crate::machine::{Failure, Kept, Limits, Named};

    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Again;

    impl Named for Again {
        fn name(&self) -> &'static str {
            "again"
        }
    }

    /// The target of a call to Consul.
    struct Sent(Option<String>);

    impl From<Command> for Sent {
        fn from(command: Command) -> Self {
            match command {
                Command::Call(call) => Self(Some(call.target)),
                Command::Cancel(_) => Self(None),
            }
        }
    }

    impl From<Box<Response>> for Sent {
        fn from(_: Box<Response>) -> Self {
            Self(None)
        }
    }

    impl From<Failure> for Sent {
        fn from(_: Failure) -> Self {
            Self(None)
        }
    }

    #[derive(Debug)]
    struct Test;

    impl Kinds for Test {
        type Continuation = Again;
        type Timer = Again;
        type Output = Sent;
        type Shared = ();
    }

    fn answer(status: u16, index: u64) -> Answer {
        Answer { status, index, body: Bytes::new() }
    }

    #[test]
    fn a_watch_goes_on_from_what_it_has_and_begins_anew_where_consul_does() {
        let limits = Limits { call: Duration::from_secs(1), answer_bytes: 1 };
        let mut kept = Kept::<Test>::new(CallId::first(0), 0, limits, ());
        let mut watch = Watch::new("/v1/kv/a?stale".into());
        let mut targets = Vec::new();
        let mut unchanged = Vec::new();
        for (status, index) in
            [(200, 7), (404, 9), (200, 9), (200, 3), (500, 9), (200, 0), (200, 4)]
        {
            let mut out = Vec::new();
            let mut cx = kept.cx(Now::default(), &mut out);
            let wait = Duration::from_secs(10);
            watch.send(&mut cx, Again, wait);
            watch.send(&mut cx, Again, wait);
            let answer = answer(status, index);
            let taken = watch.on_answer(&mut cx, Again, Some(&answer)).is_some();
            unchanged.extend(taken.then(|| watch.has_nothing_new()));
            assert_eq!(taken, (200..=404).contains(&status) && index > 0, "{status} {index}");
            targets.extend(out.into_iter().filter_map(|sent| sent.0));
        }
        let index = |n: u64| format!("/v1/kv/a?stale&index={n}&wait=10s");
        assert_eq!(targets, [0, 7, 9, 9, 0, 0, 0].map(index), "one at a time");
        assert_eq!(unchanged, [false, false, true, false, false]);
    }
}
