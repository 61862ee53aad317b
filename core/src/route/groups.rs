//! The permission to act: whether this router may write a redundancy node's route now.
//!
//! Every router may act on a node without a group. A router acts on a node with a group only under the
//! group's lease, and the handler ends before another router can acquire the lease. Without Consul, the
//! settings decide in both cases.

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
use crate::base::mutant::{Mutant, mutant};
use crate::base::time::{Instant, Next};
use crate::consul::port::Reply;

/// The maximum number of groups in the life of a server. Each group has a blocking query at Consul.
pub const GROUPS_MAX: usize = 64;

/// The maximum time for the start of a handler on a healthy host.
const STARTS: Duration = Duration::from_millis(300);

/// The minimum time for a handler. With less time left it is not started before the lease is proved again.
const USEFUL: Duration = Duration::from_millis(300);

/// The delay before the next check whether the lease is proved.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The maximum time until a dead router loses its session. Its check becomes critical when its TTL has
/// passed.
const DEAD_WITHIN: Duration = TTL.saturating_add(Duration::from_millis(500));

/// The additional time for which an event waits for a lease, beyond the time for which Consul withholds the
/// lease.
const PATIENCE: Duration = Duration::from_secs(3);

/// The time for which a client's revert waits for the holder to give the lease up.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(10);

/// The behaviour of nodes that have no lease because there is no Consul.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutConsul {
    /// The events of the nodes are handled.
    Act,
    /// The events of the nodes fail.
    Hold,
}

/// The behaviour without Consul.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The rule for nodes without a group, if no Consul is configured.
    pub ungrouped: WithoutConsul,
    /// The rule for nodes with a group. It applies if no Consul is configured, or if Consul has not responded
    /// for twice the hold plus the TTL.
    pub grouped: WithoutConsul,
}

impl Default for Rules {
    fn default() -> Self {
        Self { ungrouped: WithoutConsul::Act, grouped: WithoutConsul::Hold }
    }
}

/// The decision whether a handler may be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// The handler may run for the time `within`.
    Act {
        within: Duration,
        fence: Option<Fence>,
    },
    /// The handler may not start yet. The caller asks again at this time at the latest.
    Wait(Instant),
    /// The handler may not start, and this is no failure.
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

    /// Returns the maximum number of blocking queries.
    pub(super) fn blocking_queries(&self) -> usize {
        if self.config.is_some() { GROUPS_MAX } else { 0 }
    }

    /// Returns all groups that have redundancy nodes, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups.iter().filter(|(_, group)| group.is_used()).map(|(name, of)| (&**name, of))
    }

    /// Updates the groups from the current redundancy nodes.
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

    /// Returns whether an event on a node may be handled now. The event has been ready since the time
    /// `since`.
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
                    return Permit::Refused(format!(
                        "this server has known {GROUPS_MAX} groups already; restart it"
                    ));
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

    /// Raises the minimum term of a group, because a node's route has been written in a later term than this
    /// router's.
    pub(super) fn raise(&mut self, cx: &mut Cx<'_>, name: &str, term: u64) {
        if let Some(group) = self.groups.get_mut(name) {
            group.raise(cx, term);
        }
    }

    /// Returns whether this router holds the lease of a group in this term.
    pub(super) fn is_held(&self, now: Instant, name: &str, term: u64) -> bool {
        self.groups.get(name).is_some_and(|group| group.believes(now, term))
    }

    /// Handles Consul's reply. Returns the group that it belongs to, and the change of that group.
    pub(super) fn on_reply(
        &mut self,
        cx: &mut Cx<'_>,
        reply: &Reply,
    ) -> Option<(Box<str>, Change)> {
        let mut groups = self.groups.iter_mut();
        groups.find_map(|(name, group)| Some((name.clone(), group.on_reply(cx, reply)?)))
    }

    /// Handles the next timer that is due, if there is one. Returns its group, and the change of that group.
    pub(super) fn on_due(&mut self, cx: &mut Cx<'_>) -> Option<(Box<str>, Option<Change>)> {
        let mut groups = self.groups.iter_mut();
        groups.find_map(|(name, group)| Some((name.clone(), group.on_due(cx)?)))
    }

    /// Gives up the leases that other routers have asked for, in groups without a running handler.
    pub(super) fn settle(&mut self, cx: &mut Cx<'_>, is_idle: impl Fn(&str) -> bool) {
        for (name, group) in &mut self.groups {
            let may = is_idle(name) || mutant(Mutant::ReleasedEarly);
            if group.is_to_be_released() && may {
                group.release(cx);
            }
        }
    }

    /// Gives up all leases.
    pub(super) fn resign(&mut self, cx: &mut Cx<'_>) {
        self.groups.values_mut().for_each(|group| group.resign(cx));
    }

    /// Returns whether a call to Consul is in flight.
    pub(super) fn has_calls(&self) -> bool {
        self.groups.values().any(Group::has_calls)
    }

    pub(super) fn next(&self) -> Next {
        self.groups.values().map(Group::next).fold(Next::Wait, Next::earlier)
    }
}

/// Decides for a router that holds the lease. The handler has to end while the hold is certain.
fn under_lease(now: Instant, provider: Provider, key: Box<str>, held: Held<'_>) -> Permit {
    let Held { session, term, until } = held;
    let left = until.since(now).saturating_sub(STARTS + GRACE);
    if left < USEFUL {
        return Permit::Wait(now.after(LOOK_AGAIN));
    }
    let left = if mutant(Mutant::DeadlineUnbounded) { Duration::MAX } else { left };
    let fence = Fence { key, session: session.into(), term };
    Permit::Act { within: provider.deadline().min(left), fence: Some(fence) }
}

/// Decides for a router that does not hold the lease but may acquire it.
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
        // An unchanged write-back is harmless if the provider compares before it writes.
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
