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
        self.sim.log(|| format!("act: {chosen:?}"));
        self.perform(chosen);
        self.draw_pause()
    }

    fn perform(&mut self, act: Act) {
        let i = self.sim.index(self.hosts.len());
        match act {
            Act::Increment => self.increment(i),
            Act::Repeat => self.repeat(i),
            Act::Crowd => {
                for _ in 0..12 {
                    self.increment(i);
                }
            }
            Act::Listen => self.open_tally_stream(i),
            Act::RequestOverPipes => self.send_over_pipes(i),
            Act::ManyOverPipes => {
                for _ in 0..20 {
                    self.send_over_pipes(i);
                }
            }
            Act::MissingRoute => {
                let (method, target) =
                    [("POST", "/decrement"), ("GET", "/lease")][self.sim.index(2)];
                self.request(i, method, target, Bytes::new(), Client::Other);
            }
            Act::Kill => self.kill_for_a_while(i),
            Act::LosePower => self.lose_power_for_a_while(i),
            Act::KillSoon => self.kill_soon(i),
            Act::Freeze => self.freeze_for_a_while(i),
            Act::Stop => self.stop(i),
            Act::ConsulDown => {
                self.consul.down_until = self.sim.now() + self.sim.choose(10_000) * MS;
            }
            Act::NoLeader => {
                let lasts = self.sim.choose(10_000) * MS;
                self.drop_leader(lasts);
            }
            Act::DestroySession => self.destroy_session(),
            Act::Agent | Act::CutAgent | Act::LeaveCluster => {
                let until = self.sim.now() + self.sim.choose(10_000) * MS;
                match act {
                    Act::CutAgent => self.disconnect_agent(i),
                    Act::LeaveCluster => self.leave_cluster(i),
                    _ => self.with_consul(|double, now, out| double.set_alive(now, i, false, out)),
                }
                self.sim.schedule(until, Ev::Agent(i));
            }
            Act::Election => self.elect_server(),
            Act::Restore => self.snapshot_or_restore(),
            Act::Token => self.change_token(HIDDEN),
        }
    }

    /// Destroys the session of the lease, as an operator does.
    fn destroy_session(&mut self) {
        let held = self.consul.double.entry(HOLDER).map(|held| held.session.to_owned());
        if let Some(session) = held.filter(|session| !session.is_empty()) {
            self.request_as_other(0, "PUT", &format!("/v1/session/destroy/{session}"), "");
        }
    }

    /// Makes a node's agent healthy and a member of the cluster again.
    pub(super) fn revive(&mut self, agent: usize) {
        self.reconnect_agent(agent);
        self.with_consul(|double, now, out| double.set_alive(now, agent, true, out));
    }

    /// Makes a client listen to a machine's tally.
    pub(super) fn open_tally_stream(&mut self, node: usize) {
        let reader = Reader::drawn(|n| self.sim.choose(n));
        self.open_stream(node, LISTEN, reader);
    }

    /// Draws whether a former listener comes back, perhaps to another machine.
    pub(super) fn draw_listener_return(&mut self) {
        if self.sim.choose(2) == 1 {
            let at = self.sim.now() + self.sim.choose(3_000) * MS;
            let node = self.sim.index(self.hosts.len());
            self.sim.schedule(at, Ev::Listen(node));
        }
    }

    /// Sends a client's request over named pipes: a short one, one above the capacity of a pipe, or an
    /// invalid one.
    fn send_over_pipes(&mut self, node: usize) {
        let kind = self.sim.index(4);
        let body = vec![b'x'; [5, 0, 100_000, 9][kind]];
        let behavior = Behavior::drawn(body.len(), |n| self.sim.choose(n));
        if kind == 3 {
            self.write_to_pipes(node, body.into(), behavior);
        } else {
            let client = self.request_over_pipes(node, &body, behavior);
            self.cast.received.on_request(client, body.len());
        }
    }

    /// Sends a client's request for a new increment.
    fn increment(&mut self, node: usize) {
        self.cast.increments += 1;
        let name = format!("n{}", self.cast.increments);
        self.send_increment(node, name);
    }

    /// Sends a client's repeated request for an earlier increment.
    fn repeat(&mut self, node: usize) {
        let n = self.sim.choose(self.cast.increments.min(8));
        let name = format!("n{}", self.cast.increments - n);
        self.send_increment(node, name);
    }

    fn send_increment(&mut self, node: usize, name: String) {
        self.request(node, "POST", "/increment", Bytes::from(name), Client::Other);
    }

    /// Increments the count as another writer, correctly.
    pub(super) fn increment_concurrently(&mut self) {
        let held = self.consul.double.entry(COUNT);
        let held = held.map(|held| (String::from_utf8_lossy(held.value).into_owned(), held.index));
        let (count, index) = held.unwrap_or_default();
        self.cast.increments += 1;
        let name = format!("n{}", self.cast.increments);
        let ops = counting(&name, count.parse().unwrap_or(0) + 1, index, None);
        self.request_as_other(0, "PUT", url::TXN, op::body(&ops));
    }
}
