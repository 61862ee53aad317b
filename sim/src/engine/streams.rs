//! The clients of the machines under test with streaming HTTP responses: they read at their own pace and
//! disconnect at any time.

use std::collections::BTreeMap;

use hax_core::base::id::HttpId;
use hax_core::http::stream::{Closed, Command};
use hax_core::machine::Input;

use super::World;
use super::cast::Cast;
use super::event::Ev;
use crate::stream::{Limits, Reader, SimEvent, StreamEvent, Streams};

/// The streaming responses of one host.
#[derive(Debug)]
pub(super) struct StreamHost {
    double: Streams,
    /// The reading behavior of the clients without a response yet.
    readers: BTreeMap<HttpId, Reader>,
    wake: u64,
}

impl StreamHost {
    pub(super) fn new(limits: Limits) -> Self {
        Self { double: Streams::new(limits), readers: BTreeMap::new(), wake: u64::MAX }
    }

    /// Sets the reading behavior of this request's client.
    pub(super) fn set_reader(&mut self, request: HttpId, reader: Reader) {
        self.readers.insert(request, reader);
    }
}

impl<C: Cast> World<'_, C> {
    pub(super) fn on_stream(&mut self, i: usize, command: Command) {
        let now = self.sim.clocks().mono;
        let host = &mut self.hosts[i];
        if let Command::Begin(begin) = &command
            && let Some(Some(watch)) = host.http_requests.remove(&begin.id)
        {
            // A watch does not read a streaming response.
            self.sim.push(self.sim.now(), Ev::PostDone(watch));
        }
        let StreamHost { double, readers, .. } = &mut host.stream_host;
        let reader = readers.remove(&command.id());
        double.execute(now, command, || reader.unwrap_or(Reader::QUICK));
        self.wake_for_streams(i);
    }

    fn wake_for_streams(&mut self, i: usize) {
        let stream_host = &mut self.hosts[i].stream_host;
        let Some(at) = stream_host.double.next_at() else { return };
        let at = at.as_micros();
        if at != stream_host.wake {
            stream_host.wake = at;
            self.sim.push(at, Ev::Streams(i));
        }
    }

    /// Processes all due events of a host's streaming responses.
    pub(super) fn tick_streams(&mut self, i: usize) {
        let now = self.sim.clocks().mono;
        self.hosts[i].stream_host.wake = u64::MAX;
        while let Some(happening) = self.hosts[i].stream_host.double.pop(now) {
            match happening {
                SimEvent::Read(id, bytes) => self.on_client_event(i, id, &StreamEvent::Data(bytes)),
                SimEvent::Disconnected(id) => {
                    self.on_client_event(i, id, &StreamEvent::Disconnected)
                }
                SimEvent::Closed(Closed { id, why }) => {
                    // A client that has disconnected was informed of the end when it left.
                    if let Some(end) = StreamEvent::end(why) {
                        self.on_client_event(i, id, &end);
                    }
                    self.feed(i, Input::HttpStream(Closed { id, why }));
                }
            }
        }
        self.wake_for_streams(i);
    }

    fn on_client_event(&mut self, i: usize, id: HttpId, heard: &StreamEvent) {
        self.sim.log(|| format!("client of {id} at {} {i}: {heard:?}", C::NODE));
        C::on_stream_event(self, i, id, heard);
    }

    /// Makes slow readers read quickly.
    pub(super) fn read_quickly(&mut self, i: usize) {
        let now = self.sim.clocks().mono;
        let StreamHost { double, readers, .. } = &mut self.hosts[i].stream_host;
        double.read_quickly(now);
        readers.clear();
        self.wake_for_streams(i);
    }

    /// Delivers the remaining output of an exited machine.
    pub(super) fn finish_streams(&mut self, i: usize) {
        for (id, said, why) in self.hosts[i].stream_host.double.machine_exited() {
            if !said.is_empty() {
                self.on_client_event(i, id, &StreamEvent::Data(said));
            }
            if let Some(end) = StreamEvent::end(why) {
                self.on_client_event(i, id, &end);
            }
        }
    }

    /// Breaks the connections of a dead machine.
    pub(super) fn break_streams(&mut self, i: usize) {
        self.hosts[i].stream_host.readers.clear();
        for id in self.hosts[i].stream_host.double.daemon_killed() {
            self.on_client_event(i, id, &StreamEvent::Broken);
        }
    }
}
