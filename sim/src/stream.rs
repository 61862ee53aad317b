//! The double of the port for streaming HTTP responses ([`hax_core::http::stream`]): clients whose reading
//! behavior is data, and the buffers of the host.
//!
//! The double keeps the port's promises (chunks arrive in order, one [`Closed`] for each response, the
//! limits). A client may read slowly, or not at all, and may disconnect at any time: [`Reader::drawn`] draws
//! its behavior.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use hax_core::base::id::HttpId;
use hax_core::base::time::Instant;
use hax_core::http::stream::{Begin, CHUNK_COST, Closed, Command, HELD_MAX, Why};

use crate::due::DueQueue;

/// The time limit for a client without a read of its waiting data.
const TAKE_WITHIN: Duration = Duration::from_secs(10);
/// The latency from one end to the other.
const LATENCY: Duration = Duration::from_millis(1);

/// The limits of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The maximum number of open responses.
    pub open: usize,
    /// The buffer for one client in bytes. Each chunk costs [`CHUNK_COST`] more.
    pub held: usize,
    /// The same for all clients together. Beyond this limit the client with the largest buffer is too slow.
    pub together: usize,
}

impl Limits {
    /// The limits of a host with large buffers.
    pub const WIDE: Self = Self { open: 1024, held: HELD_MAX, together: 16 << 20 };
    /// The limits of a host with small buffers.
    pub const TIGHT: Self = Self { open: 3, held: 300, together: 500 };
}

/// The reading behavior of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    /// The pause between the arrival of data and each read.
    pub pause: Duration,
    /// The number of bytes in each read, at least 1.
    pub bytes: usize,
    /// The time after the beginning of its response when the client disconnects, if ever.
    pub leaves_after: Option<Duration>,
    /// The delay until the host notices the disconnection.
    pub missed_after: Duration,
}

impl Reader {
    /// A client with immediate reads and without a disconnection.
    pub const QUICK: Self =
        Self { pause: LATENCY, bytes: usize::MAX, leaves_after: None, missed_after: LATENCY };

    /// Draws a reading behavior. `choose` returns a number below its argument; 0 is the harmless choice.
    #[must_use]
    pub fn drawn(mut choose: impl FnMut(u64) -> u64) -> Self {
        let fate = choose(6);
        let mut ms = |most: u64| Duration::from_millis(choose(most));
        let mut reader = Self::QUICK;
        if matches!(fate, 1 | 3 | 5) {
            reader.leaves_after = Some(ms(20_000));
            reader.missed_after = LATENCY + ms(5_000);
        }
        match fate {
            2 | 3 => reader.pause += ms(3_000),
            4 | 5 => reader.pause = 2 * TAKE_WITHIN,
            _ => {}
        }
        if reader.pause > LATENCY {
            reader.bytes = 1 + usize::try_from(choose(200)).unwrap_or(0);
        }
        reader
    }
}

/// An event of the double.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SimEvent {
    /// A client has read these bytes.
    Read(HttpId, Bytes),
    /// A client has disconnected, and the host does not know it yet.
    Disconnected(HttpId),
    /// A response is over. The machine is notified, and the client sees the end unless it has disconnected.
    Closed(Closed),
}

/// An event of a response, as its client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// More data. The boundaries of chunks have no meaning.
    Data(Bytes),
    /// The response is complete.
    Ended,
    /// The host has no room for the response.
    Refused,
    /// The response breaks off: the client was too slow, or its server has died.
    Broken,
    /// The client itself has disconnected.
    Disconnected,
}

impl StreamEvent {
    /// Returns the client's event for the end of its response, or none if the client has disconnected.
    #[must_use]
    pub fn end(why: Why) -> Option<Self> {
        match why {
            Why::Ended => Some(Self::Ended),
            Why::Slow => Some(Self::Broken),
            Why::TooMany => Some(Self::Refused),
            Why::Client => None,
        }
    }
}

#[derive(Debug)]
struct Answer {
    chunks: VecDeque<Bytes>,
    /// The cost of the buffered chunks.
    held: usize,
    /// The number of read bytes of the first chunk.
    taken: usize,
    reader: Reader,
    state: State,
    /// The next read of the client is already queued.
    is_reading: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The machine has ended the response.
    Ended,
    /// The response is over, and the machine will be notified of the reason.
    Over(Why),
}

impl State {
    fn is_over(self) -> bool {
        matches!(self, Self::Over(_))
    }
}

#[derive(Clone, Copy, Debug)]
enum Due {
    Read,
    Leave,
    Close(Why),
}

/// All streaming responses of one host.
#[derive(Debug)]
pub struct Streams {
    limits: Limits,
    answers: BTreeMap<HttpId, Answer>,
    /// The cost of the buffers of all clients.
    held: usize,
    due: DueQueue<HttpId, Due>,
}

impl Streams {
    /// Creates a host without responses.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, answers: BTreeMap::new(), held: 0, due: DueQueue::default() }
    }

    /// Executes a command. `reader` returns the reading behavior for a response that begins.
    pub fn execute(&mut self, now: Instant, command: Command, reader: impl FnOnce() -> Reader) {
        match command {
            Command::Begin(begin) => self.begin(now, begin, reader()),
            Command::Chunk { id, bytes } => self.chunk(now, id, bytes),
            Command::End { id } => {
                let Some(answer) = self.answers.get_mut(&id) else { return };
                if answer.state == State::Open {
                    answer.state = State::Ended;
                    if answer.chunks.is_empty() {
                        self.close(now, id, Why::Ended, LATENCY);
                    }
                }
            }
        }
    }

    fn begin(&mut self, now: Instant, Begin { id, .. }: Begin, reader: Reader) {
        let open = self.answers.values().filter(|answer| !answer.state.is_over()).count();
        let (chunks, state) = (VecDeque::new(), State::Open);
        let answer = Answer { chunks, held: 0, taken: 0, reader, state, is_reading: false };
        self.answers.insert(id, answer);
        if open >= self.limits.open {
            return self.close(now, id, Why::TooMany, LATENCY);
        }
        if let Some(after) = reader.leaves_after {
            self.due.push(now.after(after), id, Due::Leave);
        }
    }

    fn chunk(&mut self, now: Instant, id: HttpId, bytes: Bytes) {
        let cost = bytes.len().saturating_add(CHUNK_COST);
        let open = self.answers.get_mut(&id).filter(|answer| answer.state == State::Open);
        let Some(answer) = open.filter(|_| !bytes.is_empty()) else { return };
        if cost > self.limits.held.saturating_sub(answer.held) {
            return self.close(now, id, Why::Slow, LATENCY);
        }
        answer.chunks.push_back(bytes);
        answer.held += cost;
        self.held += cost;
        self.read_later(now, id);
        if self.held > self.limits.together {
            let most = self.answers.iter().max_by_key(|(_, answer)| answer.held);
            if let Some(id) = most.map(|(id, _)| *id) {
                self.close(now, id, Why::Slow, LATENCY);
            }
        }
    }

    /// Closes a response. The machine is notified after this delay. The buffer of the response is dropped.
    fn close(&mut self, now: Instant, id: HttpId, why: Why, after: Duration) {
        let Some(answer) = self.answers.get_mut(&id) else { return };
        answer.state = State::Over(why);
        answer.chunks.clear();
        self.held -= std::mem::take(&mut answer.held);
        self.due.push(now.after(after), id, Due::Close(why));
    }

    fn read_later(&mut self, now: Instant, id: HttpId) {
        let Some(answer) = self.answers.get_mut(&id) else { return };
        if std::mem::replace(&mut answer.is_reading, true) {
            return;
        }
        let pause = answer.reader.pause.min(TAKE_WITHIN);
        self.due.push(now.after(pause), id, Due::Read);
    }

    /// Returns the time of the next event.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        self.due.next_at()
    }

    /// Returns the cost of the buffers of all clients.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes the next due event, if any.
    pub fn pop(&mut self, now: Instant) -> Option<SimEvent> {
        loop {
            let (at, id, due) = self.due.pop(now)?;
            let happening = match due {
                Due::Read => self.read(at, id),
                Due::Leave => self.leave(at, id),
                Due::Close(why) => {
                    self.answers.remove(&id).map(|_| SimEvent::Closed(Closed { id, why }))
                }
            };
            if happening.is_some() {
                return happening;
            }
        }
    }

    fn read(&mut self, now: Instant, id: HttpId) -> Option<SimEvent> {
        let answer = self.answers.get_mut(&id).filter(|answer| !answer.state.is_over())?;
        answer.is_reading = false;
        if answer.reader.pause > TAKE_WITHIN {
            self.close(now, id, Why::Slow, LATENCY);
            return None;
        }
        if answer.chunks.is_empty() {
            return None;
        }
        let (said, cost) = answer.take(answer.reader.bytes);
        self.held -= cost;
        let (is_empty, state) = (answer.chunks.is_empty(), answer.state);
        if !is_empty {
            self.read_later(now, id);
        } else if state == State::Ended {
            self.close(now, id, Why::Ended, LATENCY);
        }
        Some(SimEvent::Read(id, said))
    }

    fn leave(&mut self, now: Instant, id: HttpId) -> Option<SimEvent> {
        let answer = self.answers.get(&id).filter(|answer| !answer.state.is_over())?;
        let after = answer.reader.missed_after;
        self.close(now, id, Why::Client, after);
        Some(SimEvent::Disconnected(id))
    }

    /// Makes all clients read at once from now on. No client disconnects any more.
    pub fn read_quickly(&mut self, now: Instant) {
        self.due.retain(|_, due| !matches!(due, Due::Leave));
        let ids: Vec<HttpId> = self.answers.keys().copied().collect();
        for id in ids {
            if let Some(answer) = self.answers.get_mut(&id) {
                answer.reader = Reader::QUICK;
                answer.is_reading = false;
                if !answer.chunks.is_empty() {
                    self.read_later(now, id);
                }
            }
        }
    }

    /// Handles the exit of the machine. Returns, for each client that has not disconnected, the rest of its
    /// data and the reason of the end. The machine receives no more events.
    pub fn machine_exited(&mut self) -> Vec<(HttpId, Bytes, Why)> {
        let heard = self.answers.iter_mut().map(|(id, answer)| match answer.state {
            State::Over(why) => (*id, Bytes::new(), why),
            State::Open | State::Ended => (*id, answer.take(usize::MAX).0, Why::Ended),
        });
        let heard = heard.filter(|(_, _, why)| *why != Why::Client).collect();
        self.daemon_killed();
        heard
    }

    /// Handles the death of the daemon: all its connections break. Returns the broken responses.
    pub fn daemon_killed(&mut self) -> Vec<HttpId> {
        self.due.clear();
        self.held = 0;
        let has_gone = |answer: &Answer| answer.state == State::Over(Why::Client);
        let answers = std::mem::take(&mut self.answers).into_iter();
        answers.filter(|(_, answer)| !has_gone(answer)).map(|(id, _)| id).collect()
    }
}

impl Answer {
    /// Takes up to `most` bytes from the buffer. Returns them with the freed cost.
    fn take(&mut self, most: usize) -> (Bytes, usize) {
        let (mut said, mut cost) = (Vec::new(), 0);
        while let Some(first) = self.chunks.front()
            && said.len() < most
        {
            let rest = &first[self.taken..];
            let some = rest.len().min(most - said.len());
            said.extend_from_slice(&rest[..some]);
            self.taken += some;
            if self.taken == first.len() {
                cost += first.len() + CHUNK_COST;
                self.chunks.pop_front();
                self.taken = 0;
            }
        }
        self.held -= cost;
        (said.into(), cost)
    }
}

#[cfg(test)]
mod tests {
    use hax_core::http::stream::EVENTS;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn begin(id: u64) -> Command {
        Command::Begin(Begin { id: HttpId(id), status: 200, content_type: EVENTS })
    }

    fn chunk(id: u64, text: &'static str) -> Command {
        Command::Chunk { id: HttpId(id), bytes: Bytes::from_static(text.as_bytes()) }
    }

    fn at(ms: u32) -> Instant {
        Instant::default().after(ms * MS)
    }

    /// Takes all events, each with its time in milliseconds.
    fn all(streams: &mut Streams) -> Vec<(u64, SimEvent)> {
        let mut seen = Vec::new();
        while let Some(at) = streams.next_at() {
            let happened = std::iter::from_fn(|| streams.pop(at));
            seen.extend(happened.map(|happening| (at.as_micros() / 1000, happening)));
        }
        assert_eq!(streams.held(), 0);
        seen
    }

    fn said(id: u64, text: &'static str) -> SimEvent {
        SimEvent::Read(HttpId(id), Bytes::from_static(text.as_bytes()))
    }

    fn closed(id: u64, why: Why) -> SimEvent {
        SimEvent::Closed(Closed { id: HttpId(id), why })
    }

    #[test]
    fn what_is_said_is_heard_in_order_to_its_end() {
        let slow = Reader { pause: 5 * MS, bytes: 4, ..Reader::QUICK };
        for (reader, expected) in [
            (Reader::QUICK, vec![(1, said(1, "onetwo")), (2, closed(1, Why::Ended))]),
            (slow, vec![(5, said(1, "onet")), (10, said(1, "wo")), (11, closed(1, Why::Ended))]),
        ] {
            let mut streams = Streams::new(Limits::WIDE);
            let ended = Command::End { id: HttpId(1) };
            for command in
                [begin(1), chunk(1, "one"), chunk(1, ""), chunk(1, "two"), ended, chunk(1, "x")]
            {
                streams.execute(at(0), command, || reader);
            }
            assert_eq!(all(&mut streams), expected);
        }
    }

    #[test]
    fn who_does_not_read_is_cut_off_by_time_or_by_what_is_held() {
        let hangs = Reader { pause: 2 * TAKE_WITHIN, ..Reader::QUICK };
        let mut streams = Streams::new(Limits { held: 2 * (3 + CHUNK_COST), ..Limits::WIDE });
        for id in 1..=2 {
            streams.execute(at(0), begin(id), || hangs);
            streams.execute(at(0), chunk(id, "one"), || hangs);
        }
        streams.execute(at(0), chunk(1, "two"), || hangs);
        assert_eq!(streams.held(), 3 * (3 + CHUNK_COST));
        streams.execute(at(0), chunk(1, "x"), || hangs);
        assert_eq!(streams.held(), 3 + CHUNK_COST);
        let expected = [(1, closed(1, Why::Slow)), (10_001, closed(2, Why::Slow))];
        assert_eq!(all(&mut streams), expected);
    }

    #[test]
    fn of_all_together_who_has_most_is_cut_off() {
        let hangs = Reader { pause: 2 * TAKE_WITHIN, ..Reader::QUICK };
        let mut streams = Streams::new(Limits { together: 200, ..Limits::WIDE });
        for id in [1, 2] {
            streams.execute(at(0), begin(id), || hangs);
        }
        for id in [2, 2, 1] {
            streams.execute(at(0), chunk(id, "a"), || hangs);
        }
        assert_eq!(streams.held(), 195);
        streams.execute(at(0), chunk(1, "0123456789"), || Reader::QUICK);
        assert!(streams.held() <= 200, "{}", streams.held());
        let ends = all(&mut streams);
        assert_eq!(ends[0].1, closed(1, Why::Slow), "{ends:?}");
    }

    #[test]
    fn who_goes_away_is_missed_later_and_who_comes_too_many_is_told() {
        let (leaves_after, missed_after) = (Some(10 * MS), 30 * MS);
        let leaves = Reader { leaves_after, missed_after, ..Reader::QUICK };
        let mut streams = Streams::new(Limits { open: 1, ..Limits::WIDE });
        streams.execute(at(0), begin(1), || leaves);
        streams.execute(at(0), begin(2), || leaves);
        assert_eq!(streams.pop(at(5)), Some(closed(2, Why::TooMany)));
        assert_eq!(streams.pop(at(10)), Some(SimEvent::Disconnected(HttpId(1))));
        streams.execute(at(20), chunk(1, "into the void"), || leaves);
        // A client that has disconnected occupies no place.
        streams.execute(at(20), begin(3), || Reader::QUICK);
        assert_eq!(all(&mut streams), [(40, closed(1, Why::Client))]);
        assert_eq!(streams.daemon_killed(), [HttpId(3)]);
    }

    #[test]
    fn what_a_machine_said_before_its_exit_is_heard() {
        let slow = Reader { pause: 5 * MS, ..Reader::QUICK };
        let mut streams = Streams::new(Limits::WIDE);
        streams.execute(at(0), begin(1), || slow);
        streams.execute(at(0), chunk(1, "last"), || slow);
        let last = (HttpId(1), Bytes::from_static(b"last"), Why::Ended);
        assert_eq!(streams.machine_exited(), [last]);
        assert_eq!((streams.next_at(), streams.held()), (None, 0));
    }

    #[test]
    fn a_client_that_is_drawn_may_be_any_and_is_harmless_by_itself() {
        assert_eq!(Reader::drawn(|_| 0), Reader::QUICK);
        let drawn = (0..6).map(|fate| {
            let mut first = Some(fate);
            Reader::drawn(|n| first.take().unwrap_or(7).min(n - 1))
        });
        let kinds: std::collections::BTreeSet<_> = drawn
            .map(|one| (one.pause > LATENCY, one.pause > TAKE_WITHIN, one.leaves_after.is_some()))
            .collect();
        assert_eq!(kinds.len(), 6, "{kinds:?}");
    }
}
