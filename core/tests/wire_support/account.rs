//! What a world has seen.

use hax_core::base::fact::FactKind;
use hax_core::base::id::LinkId;
use hax_core::ha::message::{Body, Message};
use hax_core::ha::motr;
use hax_core::wire::process;

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
        let of = |e: &(u64, process::Event)| match &e.1 {
            process::Event::Received { message, .. } => Some(number(message)),
            _ => None,
        };
        self.processes[node].iter().filter_map(of).collect()
    }

    pub fn delivered_from(&self, node: usize) -> Vec<u64> {
        let of = |e: &(u64, process::Event)| match &e.1 {
            process::Event::Delivered { send } => Some(send.0),
            _ => None,
        };
        self.processes[node].iter().filter_map(of).collect()
    }

    pub fn aborts(&self) -> Vec<(usize, &'static str)> {
        let of = |(node, events): (usize, &Vec<(u64, process::Event)>)| {
            events.iter().find_map(|e| match e.1 {
                process::Event::Aborted { why } => Some((node, why)),
                _ => None,
            })
        };
        self.processes.iter().enumerate().filter_map(of).collect()
    }
}
