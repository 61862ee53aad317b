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
    pub fn must(&mut self, holds: bool, rule: &'static str, seen: impl Into<String>) {
        if !holds {
            self.sim.fail(rule, seen.into());
        }
    }

    /// Sends a client's request to a machine.
    pub fn client(&mut self, node: usize, method: &str, target: &str, body: impl Into<Bytes>) {
        self.request(node, method, target, body.into(), Client::Stranger);
    }

    /// Sends a client's request for a streaming response. The client reads as `reader` specifies. Returns the
    /// request's identifier, unless the machine is down.
    pub(crate) fn listen(&mut self, i: usize, target: &str, reader: Reader) -> Option<HttpId> {
        if !self.hosts[i].is_up() {
            return None;
        }
        let id = self.hosts[i].next_http;
        self.hosts[i].streaming.expect(id, reader);
        self.request(i, "GET", target, Bytes::new(), Client::Stranger);
        Some(id)
    }

    /// Sends a client's request for a streaming response. The reading behavior is drawn.
    pub fn listener(&mut self, node: usize, target: &str) {
        let reader = Reader::drawn(|n| self.sim.choose(n));
        self.listen(node, target, reader);
    }

    /// Performs one of the acts for any machine, or none. Returns the pause until the next act, in ms.
    pub fn befall(&mut self) -> u64 {
        let node = self.sim.index(self.hosts.len());
        match self.sim.choose(12) {
            1 => {
                self.kill(node);
                self.start_later(node);
            }
            2 => {
                self.lose_power(node);
                self.start_later(node);
            }
            3 => self.hosts[node].die_after(1 + self.sim.choose(8)),
            4 => {
                let lasts = self.sim.choose(10_000) * MS;
                self.freeze(node, lasts);
            }
            5 => self.stop(node),
            6 => self.consul.down_until = self.sim.now() + self.sim.choose(10_000) * MS,
            7 => {
                let lasts = self.sim.choose(10) * S;
                self.behead(lasts);
            }
            8 => self.servers_elect(),
            9 => self.cut_agent(node),
            10 => self.mend_agent(node),
            _ => {}
        }
        self.pause()
    }

    fn start_later(&mut self, node: usize) {
        let down = self.sim.choose(10_000);
        self.start_after(node, down * MS);
    }

    /// Reconnects all agents and servers.
    pub(super) fn mend_agents(&mut self) {
        (0..self.hosts.len()).for_each(|agent| self.mend_agent(agent));
    }
}
