//! The acts on a world of routers, and their clients.

use bytes::Bytes;

use super::ask::{Ask, EVENTS, Given, On};
use super::oracle::FILE;
use super::provider::{INDEXES, of_index};
use super::swarm::Act;
use super::{Ev, Route};
use crate::engine::{Client, MS, World, swarm};
use crate::fifo::Behavior;

/// Invalid requests.
const MALFORMED: [&[u8]; 6] = [
    b"",
    b"{",
    b"\0\xff",
    br#"{"request": "delete_node", "index": 0}"#,
    br#"{"request": "delete_node", "index": 1, "more": 2}"#,
    br#"{"request": "node_event", "nodes": {"one": 1024}, "event": "verify", "wait": true}"#,
];

/// Contents of invalid files of redundancy nodes.
const JUNK: [&[u8]; 3] = [b"", b"{\"hax_route\":9,\"nodes\":0,\"crc32\":0}\n", b"junk\n"];

impl World<'_, Route> {
    /// Performs one act and draws the pause until the next one, in ms.
    pub(super) fn act_once(&mut self) -> u64 {
        let weights = self.cast.swarm.acts;
        // Half of the acts are events, and new redundancy nodes where there are no groups.
        let at = self.sim.choose(2 * swarm::sum(&weights) + 1);
        let often = match self.cast.grouped {
            Some(_) => [Act::Told, Act::Event],
            None => [Act::Create, Act::Event],
        };
        let often = often[self.sim.index(2)];
        let chosen = swarm::weighted(&weights, at).map_or(often, |place| Act::ALL[place]);
        self.sim.log(|| format!("act: {chosen:?}"));
        self.perform(chosen);
        self.draw_pause()
    }

    fn perform(&mut self, act: Act) {
        let i = self.sim.index(self.hosts.len());
        match act {
            Act::Create
            | Act::Set
            | Act::Clear
            | Act::Delete
            | Act::Show
            | Act::Event
            | Act::Wrong
            | Act::Ping
            | Act::Erase => {
                let ask = self.drawn(act);
                self.send(i, ask);
            }
            Act::Crowd => self.crowd(i),
            Act::Http => {
                let target = ["/v1/route", "/readyz", "/healthz", "/v1/routes"][self.sim.index(4)];
                self.request(i, "GET", target, Bytes::new(), Client::Other);
            }
            Act::Kill => self.kill_for_a_while(i),
            Act::LosePower => self.lose_power_for_a_while(i),
            Act::KillSoon => self.kill_soon(i),
            Act::Freeze => {
                self.freeze_for_a_while(i);
                self.trouble_all();
            }
            Act::Stop => self.stop(i),
            Act::Damage => self.damage(i),
            Act::Told
            | Act::Member
            | Act::Meddle
            | Act::CutAgent
            | Act::Part
            | Act::Election
            | Act::Headless
            | Act::ConsulDown
            | Act::Restore => self.act_on_groups(act),
        }
    }

    /// Sends requests of many clients at once, such as scripts at a start, and hooks.
    fn crowd(&mut self, node: usize) {
        let often = [Act::Create, Act::Event, Act::Set, Act::Show, Act::Delete, Act::Clear];
        for _ in 0..[20, 100][self.sim.index(2)] {
            let act = often[self.sim.index(often.len())];
            let ask = self.drawn(act);
            self.send(node, ask);
        }
    }

    /// Draws a client's request for this act.
    fn drawn(&mut self, act: Act) -> Ask {
        // A host of the world runs few handlers at once, and members of groups need theirs.
        let indexes = if self.cast.grouped.is_some() { 4 } else { INDEXES };
        let index = 1 + u16::try_from(self.sim.choose(indexes.into())).unwrap_or(0);
        match act {
            Act::Set => Ask::Set { index, given: self.some(index) },
            Act::Clear => {
                let parameters = of_index(index).parameters();
                // The parameter that identifies the index stays.
                let at = 1 + self.sim.index(parameters.len() - 1);
                let mode = self.sim.choose(2) == 1;
                Ask::Clear { index, mode, flags: vec![parameters[at].flag] }
            }
            Act::Delete => Ask::Delete { index },
            Act::Show => Ask::Show { index: (self.sim.choose(3) > 0).then_some(index) },
            Act::Event => self.event(index),
            Act::Wrong => match self.sim.index(3) {
                0 => Ask::Set { index, given: Given::bad(index) },
                1 => Ask::Create { index, names_provider: false, given: Given::bad(index) },
                _ => {
                    let at = self.sim.index(MALFORMED.len());
                    Ask::Malformed(Bytes::from_static(MALFORMED[at]))
                }
            },
            Act::Ping => Ask::Ping,
            Act::Erase => Ask::Erase,
            Act::Create
            | Act::Crowd
            | Act::Http
            | Act::Kill
            | Act::LosePower
            | Act::KillSoon
            | Act::Freeze
            | Act::Stop
            | Act::Damage
            | Act::Told
            | Act::Member
            | Act::Meddle
            | Act::CutAgent
            | Act::Part
            | Act::Election
            | Act::Headless
            | Act::ConsulDown
            | Act::Restore => self.create(index),
        }
    }

    fn create(&mut self, index: u16) -> Ask {
        let (mode, n) = (self.mode(), self.sim.choose(16));
        let mut given = Given::all(index, mode, n);
        if self.sim.choose(8) == 7 {
            // The last parameter is missing.
            given.parameters.pop_last();
        }
        Ask::Create { index, names_provider: self.sim.choose(4) < 3, given }
    }

    /// Draws some parameters for a redundancy node.
    fn some(&mut self, index: u16) -> Given {
        let parameters = of_index(index).parameters();
        let parameter = &parameters[1 + self.sim.index(parameters.len() - 1)];
        let n = self.sim.choose(16);
        let is_hop = parameter.name == "nextHop" && self.sim.choose(4) == 3;
        let value = if is_hop { format!("2001:db8::{n}") } else { parameter.value(index, n) };
        let parameters = [(parameter.flag, value)].into();
        Given { mode: self.mode(), parameters, is_bad: false }
    }

    fn mode(&mut self) -> Option<&'static str> {
        [None, Some("primary"), Some("secondary")][self.sim.index(3)]
    }

    fn event(&mut self, index: u16) -> Ask {
        let event = EVENTS[self.sim.index(EVENTS.len())];
        let on = match self.sim.choose(4) {
            2 => On::Range(index, INDEXES),
            3 if event != "peerFail" => On::All,
            _ => On::One(index),
        };
        Ask::Event { on, event, wait: self.sim.choose(4) < 3 }
    }

    /// Runs a client's script. The client may die at any byte.
    pub(super) fn send(&mut self, node: usize, ask: Ask) {
        let body = ask.body();
        let odd = self.cast.swarm.clients;
        let behavior = if odd > 0 && self.sim.choose(1_000) >= 1_000 - odd {
            Behavior::drawn(body.len(), |n| self.sim.choose(n))
        } else {
            Behavior::PROMPT
        };
        self.sim.log(|| format!("{ask:?}"));
        let client = self.request_over_pipes(node, &body, behavior);
        self.cast.asks.insert(client, ask);
    }

    /// Damages the file while the server is down. It is repaired later.
    fn damage(&mut self, node: usize) {
        if self.cast.routers[node].is_damaged() {
            return;
        }
        self.kill(node);
        let before = self.file(node, FILE).cloned();
        let junk = match (&before, self.sim.index(JUNK.len() + 1)) {
            // The file is truncated.
            (Some(before), 0) => before.slice(..self.sim.index(before.len())),
            (_, at) => Bytes::from_static(JUNK[at.saturating_sub(1)]),
        };
        self.put_file(node, FILE, Some(junk.clone()));
        self.cast.routers[node].damage(junk, before);
        self.start_after(node, 0);
        let lasts = self.sim.choose(20_000) * MS;
        self.sim.schedule(self.sim.now() + lasts, Ev::Mend(node));
    }

    /// Restores the content of the file, as an operator does.
    pub(super) fn mend(&mut self, node: usize) {
        if let Some(before) = self.cast.routers[node].mend() {
            self.put_file(node, FILE, before);
        }
    }
}
