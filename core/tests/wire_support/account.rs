//! What a world has seen.

use hax_core::base::id::LinkId;
use hax_core::ha::fact::FactKind;
use hax_core::ha::message::{Body, Message};
use hax_core::ha::motr;
use hax_core::wire::process::Event;

use super::world::World;

/// The number that a message carries.
pub fn number(message: &Message) -> u64 {
    match message.body {
        Body::Rpc { attempts, .. } => attempts,
        _ => panic!("not numbered: {message:?}"),
    }
}

/// Nobody did what a real process aborts at or refuses, and nothing is owed.
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

/// How often the process was told that its link failed, and that it reconnected.
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
    /// Whether a fact of this kind was reported by a node.
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
