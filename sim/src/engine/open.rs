//! What a cast outside of this crate does with its world, and what is done to a world whose cast has nothing of
//! its own in mind.

use bytes::Bytes;
use hax_core::base::id::HttpId;
use hax_core::base::time::Now;

use super::World;
use super::cast::Cast;
use super::event::{MS, S};
use super::host::Client;
use crate::stream::Reader;

impl<C: Cast> World<'_, C> {
    /// The cast itself.
    #[must_use]
    pub fn cast(&self) -> &C {
        &self.cast
    }

    /// The cast itself, to be changed.
    pub fn cast_mut(&mut self) -> &mut C {
        &mut self.cast
    }

    /// Both clocks, as machines see them.
    #[must_use]
    pub fn now(&self) -> Now {
        self.sim.clocks()
    }

    /// A machine, unless it is down.
    #[must_use]
    pub fn machine(&self, node: usize) -> Option<&C::Machine> {
        self.hosts[node].machine()
    }

    /// A number below `n`; 0, the harmless one, while nothing may go wrong.
    pub fn draw(&mut self, n: u64) -> u64 {
        self.sim.choose(n)
    }

    /// This rule holds, or is broken, and this is what was seen.
    pub fn must(&mut self, holds: bool, rule: &'static str, seen: impl Into<String>) {
        if !holds {
            self.sim.fail(rule, seen.into());
        }
    }

    /// A client asks a machine something.
    pub fn client(&mut self, node: usize, method: &str, target: &str, body: impl Into<Bytes>) {
        self.request(node, method, target, body.into(), Client::Stranger);
    }

    /// A client asks for an answer that stays open, and reads it like this. Gives its name, unless nobody is there
    /// to ask.
    pub(crate) fn listen(&mut self, i: usize, target: &str, reader: Reader) -> Option<HttpId> {
        if !self.hosts[i].is_up() {
            return None;
        }
        let id = self.hosts[i].next_http;
        self.hosts[i].streaming.expect(id, reader);
        self.request(i, "GET", target, Bytes::new(), Client::Stranger);
        Some(id)
    }

    /// A client asks a machine for an answer that stays open. How it reads is drawn.
    pub fn listener(&mut self, node: usize, target: &str) {
        let reader = Reader::drawn(|n| self.sim.choose(n));
        self.listen(node, target, reader);
    }

    /// Does one of the things that may befall any machine, or nothing. Gives how long nothing else is done, in
    /// ms.
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

    /// All agents and servers find each other.
    pub(super) fn mend_agents(&mut self) {
        (0..self.hosts.len()).for_each(|agent| self.mend_agent(agent));
    }
}
