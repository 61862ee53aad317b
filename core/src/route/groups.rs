//! Who acts: whether this router may write a redundancy node's route now.
//!
//! A node without a group is acted on by whoever is told to. One with a group is only under the group's lease,
//! and its handler ends while nobody else can have that. Without Consul both are as the settings say.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

use super::context::Cx;
use super::decide::{Event, Trigger};
use super::group::{Change, Config, Group, Held, Members, TTL};
use super::job::{Fence, GRACE};
use super::node::{Mode, Node};
use super::provider::Provider;
use super::table::Table;
use crate::base::id::CallId;
use crate::base::time::{Instant, Next};
use crate::consul::port::Reply;

/// How many groups a server knows in its life. Each has a blocking query at Consul.
pub const GROUPS_MAX: usize = 64;

/// Within this a handler is started, or its host is not well.
const STARTS: Duration = Duration::from_millis(300);

/// A handler that has less than this is not started: the lease is proved anew first.
const USEFUL: Duration = Duration::from_millis(300);

/// How soon it is looked again whether the lease is proved.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Within this a router that is gone has lost its session: its check is critical once its TTL is over.
const DEAD_WITHIN: Duration = TTL.saturating_add(Duration::from_millis(500));

/// How much longer than Consul keeps the lease back an event waits for it.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a holder has to give the lease up to a client's revert.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(10);

/// What nodes do that are not acted on under a lease, as there is no Consul.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutConsul {
    /// Their events are worked.
    Act,
    /// Their events fail.
    Hold,
}

/// What is done where there is no Consul.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// By nodes without a group, where no Consul is configured.
    pub ungrouped: WithoutConsul,
    /// By nodes with a group, where no Consul is configured, or it has not answered for twice the hold and the
    /// TTL.
    pub grouped: WithoutConsul,
}

impl Default for Rules {
    fn default() -> Self {
        Self { ungrouped: WithoutConsul::Act, grouped: WithoutConsul::Hold }
    }
}

/// Whether a handler may be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// It may, for so long.
    Act {
        within: Duration,
        fence: Option<Fence>,
    },
    /// Not yet; it is to be asked again by then.
    Wait(Instant),
    /// It may not, and this is no failure.
    Leave(String),
    Refused(String),
}

/// All groups of the redundancy nodes.
#[derive(Debug)]
pub(super) struct Groups {
    config: Option<Config>,
    rules: Rules,
    seed: u64,
    groups: BTreeMap<Box<str>, Group>,
}

impl Groups {
    pub(super) fn new(config: Option<Config>, rules: Rules, seed: u64) -> Self {
        Self { config, rules, seed, groups: BTreeMap::new() }
    }

    /// How many blocking queries there may be.
    pub(super) fn blocking_queries(&self) -> usize {
        if self.config.is_some() { GROUPS_MAX } else { 0 }
    }

    /// All of them, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups.iter().filter(|(_, group)| group.is_used()).map(|(name, of)| (&**name, of))
    }

    /// The redundancy nodes are these now.
    pub(super) fn follow(&mut self, cx: &mut Cx<'_>, table: &Table) {
        let Some(config) = &self.config else { return };
        let mut members: BTreeMap<&str, Members> = BTreeMap::new();
        for (_, node) in table.iter() {
            let Some(name) = node.group() else { continue };
            let (is_primary, deadline) = (node.mode() == Mode::Primary, node.provider.deadline());
            let of = members.entry(name).or_insert(Members { is_primary, deadline });
            of.is_primary &= is_primary;
            of.deadline = of.deadline.max(deadline);
        }
        for (nth, name) in (self.groups.len()..GROUPS_MAX).zip(
            members.keys().filter(|name| !self.groups.contains_key(**name)).collect::<Box<[_]>>(),
        ) {
            let first = CallId::first(u8::try_from(nth + 1).unwrap_or(u8::MAX));
            let seed = self.seed.wrapping_add(nth as u64);
            self.groups.insert((*name).into(), Group::new(name, config.clone(), first, seed));
        }
        for (name, group) in &mut self.groups {
            group.follow(cx, members.get(&**name).copied());
        }
    }

    /// Whether an event on a node may be worked now; it has been wanted since then.
    pub(super) fn permit(
        &mut self,
        cx: &mut Cx<'_>,
        node: &Node,
        (event, trigger): (Event, Trigger),
        since: Instant,
    ) -> Permit {
        let free = Permit::Act { within: node.provider.deadline(), fence: None };
        let (rule, name) = match (node.group(), &self.config) {
            (None, Some(_)) => return free,
            (None, None) => (self.rules.ungrouped, None),
            (Some(name), None) => (self.rules.grouped, Some(name)),
            (Some(name), Some(config)) => {
                let hold = config.hold;
                let Some(group) = self.groups.get_mut(name) else {
                    return Permit::Refused(format!("there are more than {GROUPS_MAX} groups"));
                };
                let now = cx.now().mono;
                if self.rules.grouped == WithoutConsul::Act && group.is_away(now) {
                    return free;
                }
                return match group.held(now) {
                    Some(held) => under_lease(now, node.provider, group.key(), held),
                    None => without_lease(cx, group, node, (event, trigger), (since, hold)),
                };
            }
        };
        match (rule, name) {
            (WithoutConsul::Act, _) => free,
            (WithoutConsul::Hold, None) => {
                Permit::Refused("no Consul is configured, and this router holds then".into())
            }
            (WithoutConsul::Hold, Some(name)) => Permit::Refused(format!(
                "the node is of group {name}, and no Consul is configured that could say who acts"
            )),
        }
    }

    /// The route of a node has been written in a later term than this router's.
    pub(super) fn raise(&mut self, cx: &mut Cx<'_>, name: &str, term: u64) {
        if let Some(group) = self.groups.get_mut(name) {
            group.raise(cx, term);
        }
    }

    /// Whether the lease of a group is held in this term.
    pub(super) fn is_held(&self, now: Instant, name: &str, term: u64) -> bool {
        self.groups.get(name).is_some_and(|group| group.believes(now, term))
    }

    /// Consul has answered; what has changed of which group.
    pub(super) fn on_reply(
        &mut self,
        cx: &mut Cx<'_>,
        reply: &Reply,
    ) -> Option<(Box<str>, Change)> {
        let mut groups = self.groups.iter_mut();
        groups.find_map(|(name, group)| Some((name.clone(), group.on_reply(cx, reply)?)))
    }

    /// Works the next timer that is due, if one is; what has changed of which group.
    pub(super) fn on_due(&mut self, cx: &mut Cx<'_>) -> Option<(Box<str>, Option<Change>)> {
        let mut groups = self.groups.iter_mut();
        groups.find_map(|(name, group)| Some((name.clone(), group.on_due(cx)?)))
    }

    /// Gives up what is asked for, where no handler runs.
    pub(super) fn settle(&mut self, cx: &mut Cx<'_>, is_idle: impl Fn(&str) -> bool) {
        for (name, group) in &mut self.groups {
            if group.is_to_be_released() && is_idle(name) {
                group.release(cx);
            }
        }
    }

    /// Gives everything up.
    pub(super) fn resign(&mut self, cx: &mut Cx<'_>) {
        self.groups.values_mut().for_each(|group| group.resign(cx));
    }

    /// Whether Consul owes an answer.
    pub(super) fn has_calls(&self) -> bool {
        self.groups.values().any(Group::has_calls)
    }

    pub(super) fn next(&self) -> Next {
        self.groups.values().map(Group::next).fold(Next::Wait, Next::earlier)
    }
}

/// The lease is ours: the handler has to end while that is certain.
fn under_lease(now: Instant, provider: Provider, key: Box<str>, held: Held<'_>) -> Permit {
    let Held { session, term, until } = held;
    let left = until.since(now).saturating_sub(STARTS + GRACE);
    if left < USEFUL {
        return Permit::Wait(now.after(LOOK_AGAIN));
    }
    let fence = Fence { key, session: session.into(), term };
    Permit::Act { within: provider.deadline().min(left), fence: Some(fence) }
}

/// The lease is not ours: it may become so.
fn without_lease(
    cx: &mut Cx<'_>,
    group: &mut Group,
    node: &Node,
    (event, trigger): (Event, Trigger),
    (since, hold): (Instant, Duration),
) -> Permit {
    let now = cx.now().mono;
    let key = group.key();
    match trigger {
        Trigger::Client | Trigger::Peer => {}
        Trigger::Lease | Trigger::Sweep => {
            return Permit::Leave(format!("{key} is not held here"));
        }
    }
    let named = |group: &Group, what: &str| match group.other() {
        Some(other) => format!("{} holds {key} in term {}{what}", other.name, other.term),
        None => format!("{key} is not to be had: nobody holds it, as far as Consul says"),
    };
    match event {
        // A route that is written back as it is found harms nobody where its provider compares.
        Event::Verify if node.provider == Provider::Consul => {
            Permit::Act { within: node.provider.deadline(), fence: None }
        }
        Event::Verify => Permit::Refused(named(group, ", and verifies")),
        Event::PeerFail if group.other().is_some() && now >= since.after(DEAD_WITHIN) => {
            Permit::Refused(named(group, " and lives"))
        }
        Event::PeerFail => {
            let end = since.after(DEAD_WITHIN + hold + PATIENCE);
            if now >= end {
                return Permit::Refused(named(group, ""));
            }
            let look = since.after(DEAD_WITHIN);
            Permit::Wait(if now < look { look } else { end })
        }
        Event::Revert => {
            let end = since.after(HAND_OVER_WITHIN);
            if now >= end {
                return Permit::Refused(named(group, ", and has not given it up"));
            }
            group.demand(cx, end);
            Permit::Wait(end)
        }
    }
}
