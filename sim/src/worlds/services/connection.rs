//! The connection between hax and the keeper of its node. Messages arrive in order, or not at all.

use std::collections::BTreeSet;

use hax_core::base::id::AskId;
use hax_core::keeper::answer::{Answer, Message, View, What};
use hax_core::keeper::port::{Command, Event, Unanswered};
use hax_core::keeper::request::{Ask, Request, VERSION};
use hax_core::keeper::{ClientId, Input};
use hax_core::machine;

use super::{Ev, Services};
use crate::engine::{MS, World};

/// The latency between hax and its keeper, in µs.
const LATENCY: u64 = 200;
/// The id of the request with which a connection begins.
const WATCH: u64 = u64::MAX;

/// The connection of a hax to its keeper.
#[derive(Debug)]
pub(super) struct Session {
    client: ClientId,
    /// The life of hax.
    life: u32,
    /// The instances of the list so far.
    listed: Vec<View>,
    /// The requests without an answer.
    asked: BTreeSet<AskId>,
    /// The arrival of the last message at the keeper.
    to_keeper: u64,
}

impl World<'_, Services> {
    pub(super) fn connect_later(&mut self, node: usize, delay: u64) {
        let life = self.hosts[node].life();
        self.sim.schedule(self.sim.now() + delay, Ev::Connect { node, life });
    }

    /// Connects a hax with its keeper, if both are up.
    pub(super) fn connect(&mut self, node: usize, life: u32) {
        let is_here = self.hosts[node].is_up() && self.hosts[node].life() == life;
        if !is_here || self.cast.nodes[node].keeper.session.is_some() {
            return;
        }
        if !self.cast.nodes[node].keeper.is_up() {
            let down = Event::Down { why: "no keeper answers".into() };
            return self.deliver(node, life, down);
        }
        let now = self.sim.now();
        let host = self.keeper(node);
        let client = ClientId(host.next_client);
        host.next_client += 1;
        let (listed, asked) = (Vec::new(), BTreeSet::new());
        host.session = Some(Session { client, life, listed, asked, to_keeper: now });
        self.send_frame(node, WATCH, Ask::Watch);
    }

    /// Sends a request on the connection.
    fn send_frame(&mut self, node: usize, id: u64, ask: Ask) {
        let now = self.sim.now();
        let late = self.late();
        let host = &mut self.cast.nodes[node].keeper;
        let Some(session) = &mut host.session else { return };
        session.to_keeper = session.to_keeper.max(now + LATENCY + late);
        let body = serde_json::to_vec(&Request { v: VERSION, id, ask }).unwrap_or_default();
        let input = Box::new(Input::Frame { client: session.client, user: 0, body });
        let (at, life) = (session.to_keeper, host.life);
        self.sim.schedule(at, Ev::ToKeeper { node, life, input });
    }

    /// Draws an additional latency, in µs.
    fn late(&mut self) -> u64 {
        let odds = self.cast.swarm.slow_keeper;
        if odds > 0 && self.sim.choose(1_000) >= 1_000 - odds {
            self.sim.choose(2_000) * MS
        } else {
            0
        }
    }

    /// Delivers an event of the connection to hax.
    fn tell_hax(&mut self, node: usize, event: Event) {
        let session = self.cast.nodes[node].keeper.session.as_ref();
        if let Some(life) = session.map(|session| session.life) {
            self.deliver(node, life, event);
        }
    }

    /// Delivers an event of the port to a life of hax. Events arrive in order, also those of two connections.
    fn deliver(&mut self, node: usize, life: u32, event: Event) {
        let now = self.sim.now();
        let late = self.late();
        let host = self.keeper(node);
        host.to_hax = host.to_hax.max(now + LATENCY + late);
        let at = host.to_hax;
        self.sim.schedule(at, Ev::ToHax { node, life, event: Box::new(event) });
    }

    /// Breaks the connection because the keeper has gone.
    pub(super) fn break_session(&mut self, node: usize) {
        let asked = match &mut self.cast.nodes[node].keeper.session {
            Some(session) => std::mem::take(&mut session.asked),
            None => return,
        };
        for id in asked {
            self.tell_hax(node, Event::Answered { id, result: Err(Unanswered::Lost) });
        }
        self.tell_hax(node, Event::Down { why: "the connection is lost".into() });
        self.cast.nodes[node].keeper.session = None;
    }

    /// Ends the connection because hax has gone. What it has sent still arrives.
    pub(super) fn hang_up(&mut self, node: usize) {
        let now = self.sim.now();
        let host = self.keeper(node);
        if let Some(session) = host.session.take() {
            let at = session.to_keeper.max(now + LATENCY);
            let (life, input) = (host.life, Box::new(Input::Closed { client: session.client }));
            self.sim.schedule(at, Ev::ToKeeper { node, life, input });
        }
    }

    /// Passes a request of hax on.
    pub(super) fn ask_keeper(&mut self, node: usize, command: Command) {
        let life = self.hosts[node].life();
        match &mut self.cast.nodes[node].keeper.session {
            Some(session) => {
                session.asked.insert(command.id);
                self.send_frame(node, command.id.0, command.ask);
            }
            None => {
                let (id, result) = (command.id, Err(Unanswered::NotSent));
                self.deliver(node, life, Event::Answered { id, result });
            }
        }
    }

    /// Sends a request of another program than hax.
    pub(super) fn ask_keeper_as_other(&mut self, node: usize, ask: Ask) {
        let life = self.keeper(node).life;
        let body = serde_json::to_vec(&Request { v: VERSION, id: 1, ask }).unwrap_or_default();
        let input = Box::new(Input::Frame { client: ClientId(1), user: 1, body });
        self.sim.schedule(self.sim.now() + LATENCY, Ev::ToKeeper { node, life, input });
    }

    pub(super) fn hear_keeper(&mut self, node: usize, life: u32, event: Event) {
        if self.hosts[node].life() == life {
            self.feed(node, machine::Input::Keeper(event));
        }
    }

    pub(super) fn on_message(&mut self, node: usize, client: ClientId, message: Message) {
        let Some(session) = &mut self.cast.nodes[node].keeper.session else { return };
        if session.client != client {
            return;
        }
        let id = message.id.unwrap_or(0);
        let event = match message.what {
            What::Answer(Answer::Instances { keeper, instances, more }) => {
                session.listed.extend(instances);
                if more {
                    return;
                }
                let instances = std::mem::take(&mut session.listed);
                Event::Up { keeper, instances }
            }
            What::Answer(answer) => {
                session.asked.remove(&AskId(id));
                Event::Answered { id: AskId(id), result: Ok(answer) }
            }
            What::Error(error) => {
                session.asked.remove(&AskId(id));
                Event::Answered { id: AskId(id), result: Err(Unanswered::Refused(error)) }
            }
            What::Event(event) => Event::Changed(event),
        };
        self.tell_hax(node, event);
    }
}
