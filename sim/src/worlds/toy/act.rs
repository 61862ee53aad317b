//! The acts on a world of counters, and their clients.

use bytes::Bytes;
use hax_core::consul::{op, url};

use super::machine::{COUNT, HOLDER, LISTEN, counting};
use super::swarm::Act;
use super::{Ev, Toy};
use crate::engine::{Client, MS, World, swarm};
use crate::fifo::Behavior;
use crate::stream::Reader;

/// The API paths for tokens without the read permission.
const HIDDEN: [&str; 3] = ["/v1/kv/count", "/v1/kv/names", "/v1/kv/holder"];

impl World<'_, Toy> {
    /// Performs one act and draws the pause until the next one, in ms.
    pub(super) fn act_once(&mut self) -> u64 {
        let weights = self.cast.swarm.acts;
        // Half of the acts are increments.
        let at = self.sim.choose(2 * swarm::sum(&weights) + 1);
        let chosen = swarm::weighted(&weights, at).map_or(Act::Increment, |place| Act::ALL[place]);
        self.sim.say(|| format!("act: {chosen:?}"));
        self.perform(chosen);
        self.pause()
    }

    fn perform(&mut self, act: Act) {
        let i = self.sim.index(self.hosts.len());
        match act {
            Act::Increment => self.increment(i),
            Act::Again => self.again(i),
            Act::Crowd => {
                for _ in 0..12 {
                    self.increment(i);
                }
            }
            Act::Listen => self.listen_to(i),
            Act::Inquire => self.inquire(i),
            Act::InquireAll => {
                for _ in 0..20 {
                    self.inquire(i);
                }
            }
            Act::Stray => {
                let (method, target) =
                    [("POST", "/decrement"), ("GET", "/lease")][self.sim.index(2)];
                self.request(i, method, target, Bytes::new(), Client::Stranger);
            }
            Act::Kill => {
                self.kill(i);
                let down = self.sim.choose(10_000);
                self.start_after(i, down * MS);
            }
            Act::LosePower => {
                self.lose_power(i);
                let down = self.sim.choose(10_000);
                self.start_after(i, down * MS);
            }
            Act::KillSoon => self.hosts[i].die_after(1 + self.sim.choose(8)),
            Act::Freeze => {
                let lasts = self.sim.choose(10_000) * MS;
                self.freeze(i, lasts);
            }
            Act::Stop => self.stop(i),
            Act::ConsulDown => {
                self.consul.down_until = self.sim.now() + self.sim.choose(10_000) * MS;
            }
            Act::Headless => {
                let lasts = self.sim.choose(10_000) * MS;
                self.behead(lasts);
            }
            Act::Unseat => self.unseat(),
            Act::Agent | Act::CutAgent | Act::LeaveCluster => {
                let until = self.sim.now() + self.sim.choose(10_000) * MS;
                match act {
                    Act::CutAgent => self.cut_agent(i),
                    Act::LeaveCluster => self.leave_cluster(i),
                    _ => self.at_consul(|double, now, out| double.set_alive(now, i, false, out)),
                }
                self.sim.later(until, Ev::Agent(i));
            }
            Act::Election => self.servers_elect(),
            Act::Restore => self.restore(),
            Act::Token => self.change_token(HIDDEN),
        }
    }

    /// Destroys the session of the lease, as an operator does.
    fn unseat(&mut self) {
        let held = self.consul.double.holds(HOLDER).map(|held| held.session.to_owned());
        if let Some(session) = held.filter(|session| !session.is_empty()) {
            self.tell_consul(0, "PUT", &format!("/v1/session/destroy/{session}"), "");
        }
    }

    /// Makes a node's agent healthy and a member of the cluster again.
    pub(super) fn revive(&mut self, agent: usize) {
        self.mend_agent(agent);
        self.at_consul(|double, now, out| double.set_alive(now, agent, true, out));
    }

    /// Makes a client listen to a machine's tally.
    pub(super) fn listen_to(&mut self, node: usize) {
        let reader = Reader::drawn(|n| self.sim.choose(n));
        self.listen(node, LISTEN, reader);
    }

    /// Draws whether a former listener comes back, perhaps to another machine.
    pub(super) fn may_come_back(&mut self) {
        if self.sim.choose(2) == 1 {
            let at = self.sim.now() + self.sim.choose(3_000) * MS;
            let node = self.sim.index(self.hosts.len());
            self.sim.later(at, Ev::Listen(node));
        }
    }

    /// Sends a client's request over named pipes: a short one, one above the capacity of a pipe, or an
    /// invalid one.
    fn inquire(&mut self, node: usize) {
        let kind = self.sim.index(4);
        let body = vec![b'x'; [5, 0, 100_000, 9][kind]];
        let behavior = Behavior::drawn(body.len(), |n| self.sim.choose(n));
        if kind == 3 {
            self.write_to_pipes(node, body.into(), behavior);
        } else {
            let client = self.ask_over_pipes(node, &body, behavior);
            self.cast.hearing.asked(client, body.len());
        }
    }

    /// Sends a client's request for a new increment.
    fn increment(&mut self, node: usize) {
        self.cast.names += 1;
        let name = format!("n{}", self.cast.names);
        self.ask(node, name);
    }

    /// Sends a client's repeated request for an earlier increment.
    fn again(&mut self, node: usize) {
        let n = self.sim.choose(self.cast.names.min(8));
        let name = format!("n{}", self.cast.names - n);
        self.ask(node, name);
    }

    fn ask(&mut self, node: usize, name: String) {
        self.request(node, "POST", "/increment", Bytes::from(name), Client::Stranger);
    }

    /// Increments the count as another writer, correctly.
    pub(super) fn count_beside(&mut self) {
        let held = self.consul.double.holds(COUNT);
        let held = held.map(|held| (String::from_utf8_lossy(held.value).into_owned(), held.index));
        let (count, index) = held.unwrap_or_default();
        self.cast.names += 1;
        let name = format!("n{}", self.cast.names);
        let ops = counting(&name, count.parse().unwrap_or(0) + 1, index, None);
        self.tell_consul(0, "PUT", url::TXN, op::body(&ops));
    }
}
