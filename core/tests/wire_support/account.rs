//! Queries about the events of a world.

use hax_core::base::id::LinkId;
use hax_core::ha::fact::FactKind;
use hax_core::ha::message::{Body, Message};
use hax_core::ha::motr;
use hax_core::wire::process::Event;

use super::world::World;

/// Returns the number in a message.
pub fn number(message: &Message) -> u64 {
    match message.body {
        Body::Rpc { attempts, .. } => attempts,
        _ => panic!("not numbered: {message:?}"),
    }
}

/// Checks that no machine did anything that a real process aborts at or refuses, and that no outcome of a
/// message is missing.
#[track_caller]
pub fn at_peace(world: &World) {
    assert_eq!(world.aborts(), [], "{}", world.trace.join("\n"));
    assert!(world.owed.is_empty(), "{:?}\n{}", world.owed, world.trace.join("\n"));
    for node in 0..world.processes.len() {
        for bad in
            [FactKind::BadFrame, FactKind::BadPacket, FactKind::BadItem, FactKind::BadDelivered]
        {
            assert_eq!(world.saw(node, bad), 0, "{}", world.trace.join("\n"));
        }
    }
}

/// Returns the numbers of link failures and of reconnects that the process reported.
pub fn failures(world: &World, node: usize) -> (usize, usize) {
    let count = |f: fn(&Event) -> bool| world.processes[node].iter().filter(|e| f(&e.1)).count();
    (count(|e| *e == Event::LinkFailed), count(|e| *e == Event::LinkUp { reconnected: true }))
}

pub fn hax_events(world: &World, f: fn(&motr::Event) -> bool) -> Vec<u64> {
    world.hax.iter().filter(|e| f(&e.1)).map(|e| e.0).collect()
}

pub fn is_down(event: &motr::Event) -> bool {
    matches!(event, motr::Event::LinkDown { .. })
}

pub fn is_back(event: &motr::Event) -> bool {
    matches!(event, motr::Event::LinkBack { .. })
}

pub fn is_up(event: &motr::Event) -> bool {
    matches!(event, motr::Event::LinkUp { .. })
}

pub fn is_reused(event: &motr::Event) -> bool {
    matches!(event, motr::Event::LinkReused { .. })
}

pub fn is_asked(event: &motr::Event) -> bool {
    matches!(event, motr::Event::Asked(_))
}

impl World {
    /// Returns the number of facts of this kind that a node reported.
    pub fn saw(&self, node: usize, kind: FactKind) -> usize {
        self.facts.iter().filter(|(n, f)| *n == node && f.kind() == kind).count()
    }

    pub fn received_by_hax(&self, link: LinkId) -> Vec<u64> {
        let of = |e: &(u64, motr::Event)| match &e.1 {
            motr::Event::Received { link: l, message, .. } if *l == link => Some(number(message)),
            _ => None,
        };
        self.hax.iter().filter_map(of).collect()
    }

    pub fn received_by(&self, node: usize) -> Vec<u64> {
        let of = |e: &(u64, Event)| match &e.1 {
            Event::Received { message, .. } => Some(number(message)),
            _ => None,
        };
        self.processes[node].iter().filter_map(of).collect()
    }

    pub fn delivered_from(&self, node: usize) -> Vec<u64> {
        let of = |e: &(u64, Event)| match &e.1 {
            Event::Delivered { send } => Some(send.0),
            _ => None,
        };
        self.processes[node].iter().filter_map(of).collect()
    }

    pub fn aborts(&self) -> Vec<(usize, &'static str)> {
        let of = |(node, events): (usize, &Vec<(u64, Event)>)| {
            events.iter().find_map(|e| match e.1 {
                Event::Aborted { why } => Some((node, why)),
                _ => None,
            })
        };
        self.processes.iter().enumerate().filter_map(of).collect()
    }
}
