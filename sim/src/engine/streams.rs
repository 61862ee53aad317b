//! The clients of the machines under test with streaming HTTP responses: they read at their own pace and
//! disconnect at any time.

use std::collections::BTreeMap;

use hax_core::base::id::HttpId;
use hax_core::http::stream::{Closed, Command};
use hax_core::machine::Input;

use super::World;
use super::cast::Cast;
use super::event::Ev;
use crate::stream::{Happening, Limits, Reader, StreamEvent, Streams};

/// The streaming responses of one host.
#[derive(Debug)]
pub(super) struct Streaming {
    double: Streams,
    /// The reading behavior of the clients without a response yet.
    readers: BTreeMap<HttpId, Reader>,
    wake: u64,
}

impl Streaming {
    pub(super) fn new(limits: Limits) -> Self {
        Self { double: Streams::new(limits), readers: BTreeMap::new(), wake: u64::MAX }
    }

    /// Sets the reading behavior of this request's client.
    pub(super) fn expect(&mut self, request: HttpId, reader: Reader) {
        self.readers.insert(request, reader);
    }
}

impl<C: Cast> World<'_, C> {
    pub(super) fn on_stream(&mut self, i: usize, command: Command) {
        let now = self.sim.clocks().mono;
        let host = &mut self.hosts[i];
        if let Command::Begin(begin) = &command
            && let Some(Some(watch)) = host.https.remove(&begin.id)
        {
            // A watch does not read a streaming response.
            self.sim.push(self.sim.now(), Ev::Posted(watch));
        }
        let Streaming { double, readers, .. } = &mut host.streaming;
        let reader = readers.remove(&command.id());
        double.execute(now, command, || reader.unwrap_or(Reader::QUICK));
        self.wake_for_streams(i);
    }

    fn wake_for_streams(&mut self, i: usize) {
        let streaming = &mut self.hosts[i].streaming;
        let Some(at) = streaming.double.next_at() else { return };
        let at = at.as_micros();
        if at != streaming.wake {
            streaming.wake = at;
            self.sim.push(at, Ev::Streams(i));
        }
    }

    /// Processes all due events of a host's streaming responses.
    pub(super) fn tick_streams(&mut self, i: usize) {
        let now = self.sim.clocks().mono;
        self.hosts[i].streaming.wake = u64::MAX;
        while let Some(happening) = self.hosts[i].streaming.double.pop(now) {
            match happening {
                Happening::Said(id, bytes) => self.heard(i, id, &StreamEvent::Said(bytes)),
                Happening::Left(id) => self.heard(i, id, &StreamEvent::Left),
                Happening::Closed(Closed { id, why }) => {
                    // A client that has disconnected was informed of the end when it left.
                    if let Some(end) = StreamEvent::end(why) {
                        self.heard(i, id, &end);
                    }
                    self.feed(i, Input::HttpStream(Closed { id, why }));
                }
            }
        }
        self.wake_for_streams(i);
    }

    fn heard(&mut self, i: usize, id: HttpId, heard: &StreamEvent) {
        self.sim.say(|| format!("client of {id} at {} {i}: {heard:?}", C::NODE));
        C::on_stream_event(self, i, id, heard);
    }

    /// Makes slow readers read quickly.
    pub(super) fn read_quickly(&mut self, i: usize) {
        let now = self.sim.clocks().mono;
        let Streaming { double, readers, .. } = &mut self.hosts[i].streaming;
        double.read_quickly(now);
        readers.clear();
        self.wake_for_streams(i);
    }

    /// Delivers the remaining output of an exited machine.
    pub(super) fn finish_streams(&mut self, i: usize) {
        for (id, said, why) in self.hosts[i].streaming.double.machine_exited() {
            if !said.is_empty() {
                self.heard(i, id, &StreamEvent::Said(said));
            }
            if let Some(end) = StreamEvent::end(why) {
                self.heard(i, id, &end);
            }
        }
    }

    /// Breaks the connections of a dead machine.
    pub(super) fn break_streams(&mut self, i: usize) {
        self.hosts[i].streaming.readers.clear();
        for id in self.hosts[i].streaming.double.daemon_killed() {
            self.heard(i, id, &StreamEvent::Broken);
        }
    }
}
