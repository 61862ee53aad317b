//! The operations on a world for casts outside of this crate, and the default acts for a cast without acts of
//! its own.

use bytes::Bytes;
use hax_core::base::id::HttpId;
use hax_core::base::time::Now;

use super::World;
use super::cast::Cast;
use super::event::{MS, S};
use super::host::Client;
use crate::stream::Reader;

impl<C: Cast> World<'_, C> {
    /// Returns the cast.
    #[must_use]
    pub fn cast(&self) -> &C {
        &self.cast
    }

    /// Returns the cast for modification.
    pub fn cast_mut(&mut self) -> &mut C {
        &mut self.cast
    }

    /// Returns both clocks as the machines see them.
    #[must_use]
    pub fn now(&self) -> Now {
        self.sim.clocks()
    }

    /// Returns a machine, unless it is down.
    #[must_use]
    pub fn machine(&self, node: usize) -> Option<&C::Machine> {
        self.hosts[node].machine()
    }

    /// Draws a number below `n`. While faults are off it returns 0, the harmless choice.
    pub fn draw(&mut self, n: u64) -> u64 {
        self.sim.choose(n)
    }

    /// Checks a rule. `seen` is the observation that is reported if the rule is broken.
    pub fn require(&mut self, holds: bool, rule: &'static str, seen: impl Into<String>) {
        if !holds {
            self.sim.fail(rule, seen.into());
        }
    }

    /// Sends a client's request to a machine.
    pub fn send_request(
        &mut self,
        node: usize,
        method: &str,
        target: &str,
        body: impl Into<Bytes>,
    ) {
        self.request(node, method, target, body.into(), Client::Other);
    }

    /// Sends a client's request for a streaming response. The client reads as `reader` specifies. Returns the
    /// request's identifier, unless the machine is down.
    pub(crate) fn open_stream(&mut self, i: usize, target: &str, reader: Reader) -> Option<HttpId> {
        if !self.hosts[i].is_up() {
            return None;
        }
        let id = self.hosts[i].next_http;
        self.hosts[i].stream_host.set_reader(id, reader);
        self.request(i, "GET", target, Bytes::new(), Client::Other);
        Some(id)
    }

    /// Sends a client's request for a streaming response. The reading behavior is drawn.
    pub fn open_drawn_stream(&mut self, node: usize, target: &str) {
        let reader = Reader::drawn(|n| self.sim.choose(n));
        self.open_stream(node, target, reader);
    }

    /// Performs one of the acts for any machine, or none. Returns the pause until the next act, in ms.
    pub fn default_act(&mut self) -> u64 {
        let node = self.sim.index(self.hosts.len());
        match self.sim.choose(12) {
            1 => self.kill_for_a_while(node),
            2 => self.lose_power_for_a_while(node),
            3 => self.kill_soon(node),
            4 => self.freeze_for_a_while(node),
            5 => self.stop(node),
            6 => self.consul.down_until = self.sim.now() + self.sim.choose(10_000) * MS,
            7 => {
                let lasts = self.sim.choose(10) * S;
                self.drop_leader(lasts);
            }
            8 => self.elect_server(),
            9 => self.disconnect_agent(node),
            10 => self.reconnect_agent(node),
            _ => {}
        }
        self.draw_pause()
    }

    /// Kills a machine, and starts it again after a drawn time.
    pub(crate) fn kill_for_a_while(&mut self, node: usize) {
        self.kill(node);
        self.start_later(node);
    }

    /// Takes the power from a node, and starts its machine again after a drawn time.
    pub(crate) fn lose_power_for_a_while(&mut self, node: usize) {
        self.lose_power(node);
        self.start_later(node);
    }

    /// Makes a machine die after a drawn number of further outputs.
    pub(crate) fn kill_soon(&mut self, node: usize) {
        self.hosts[node].die_after(1 + self.sim.choose(8));
    }

    /// Freezes a machine for a drawn time.
    pub(crate) fn freeze_for_a_while(&mut self, node: usize) {
        let lasts = self.sim.choose(10_000) * MS;
        self.freeze(node, lasts);
    }

    fn start_later(&mut self, node: usize) {
        let down = self.sim.choose(10_000);
        self.start_after(node, down * MS);
    }

    /// Reconnects all agents and servers.
    pub(super) fn reconnect_agents(&mut self) {
        (0..self.hosts.len()).for_each(|agent| self.reconnect_agent(agent));
    }
}
