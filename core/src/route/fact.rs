//! The facts that the server reports about its actions and observations.

use alloc::boxed::Box;
use core::time::Duration;

use super::node::Index;
use crate::base::fact::{Kind, Metric, Report};
use crate::machine::{Failure, Output};

crate::facts! {
    "route";
    /// The redundancy nodes have been read from the file.
    Info Loaded { nodes: usize } "serves: {nodes} redundancy nodes";
    /// The file of redundancy nodes cannot be used.
    Error Unusable { path: Box<str>, why: Box<str> } "cannot use the file {path}, which stays as it is: {why}";
    /// A redundancy node has been changed.
    Info Changed { index: Index, how: &'static str } "node {index}: {how}";
    /// The file could not be written, so nothing was changed.
    Warn NotWritten { path: Box<str>, why: Box<str> } "cannot write {path}: {why}; what was asked for is not done";
    /// A client's request has been refused.
    Info Refused { why: Box<str> } "refused: {why}";
    /// An event has occurred.
    Info Occurred { index: Index, event: &'static str, response: &'static str } "node {index}: {event}: {response}";
    /// An event handler has succeeded.
    Info Worked { index: Index, event: &'static str, detail: Box<str>, us: u64 }
        "node {index}: {event}: {detail} ({ms} ms)", ms = us / 1_000;
    /// An event handler has failed.
    Warn Failed { index: Index, event: &'static str, why: Box<str> } "node {index}: {event} failed: {why}";
    /// A route leads to the right router.
    Debug Confirmed { index: Index, detail: Box<str> } "node {index}: {detail}";
    /// Another writer had changed a route, and the change has been corrected.
    Warn Mended { index: Index, detail: Box<str> } "node {index}: somebody else had changed it: {detail}";
    /// Another writer changes a route repeatedly.
    Warn Contested { index: Index }
        "node {index}: somebody else changes it again and again; it is left to them until the next event";
    /// This router has acquired the lease of a group.
    Info Gained { group: Box<str>, term: u64 } "group {group}: this router acts, in term {term}";
    /// This router has lost the lease of a group. Another router holds it, or none does.
    Warn Lost { group: Box<str>, why: Box<str> } "group {group}: this router acts no more: {why}";
    /// This router's hold of a group's lease could not be proved.
    Warn Lapsed { group: Box<str> } "group {group}: this router stops acting: Consul does not say that it may";
    /// This router's hold of a group's lease has been proved again.
    Info Proved { group: Box<str> } "group {group}: this router acts again";
    /// This router asks the holder of a lease to hand it over.
    Info Asks { group: Box<str>, holder: Box<str>, term: u64 } "group {group}: asks {holder} (term {term}) to hand over";
    /// Another router asks for the lease.
    Info Asked { group: Box<str>, by: Box<str> } "group {group}: {by} asks to take over";
    /// The lease has been handed over to the router that asked for it.
    Info HandedOver { group: Box<str>, to: Box<str> } "group {group}: handed over to {to}";
    /// The other router's service is critical.
    Warn PeerFailed { service: Box<str> } "{service} fails: peerFail on all nodes";
    /// The other router's service is passing.
    Info PeerWell { service: Box<str> } "{service} is well";
    /// The other router's service is not in Consul's catalog.
    Warn PeerUnknown { service: Box<str> } "{service} is not in Consul's catalog: its failure would not be seen";
    /// This router has been well for a while.
    Info Returned {} "well again for a while: revert on all primaries";
    /// All state has been deleted.
    Warn Erased { nodes: usize } "stopped by ha_api: {nodes} redundancy nodes are deleted";
    /// A stop has begun.
    Info Stopping {} "stopping: the work in progress is finished first";
    /// The stop is complete.
    Info Stopped {} "stopped; the redundancy nodes are kept";
    /// Consul did not respond, or responded with an error.
    Warn ConsulFailed { what: &'static str, why: Box<str> } "Consul: {what}: {why}";
}

impl Report for Fact {
    const KINDS: &'static [Kind] = FactKind::KINDS;

    const LATENCIES: &'static [Metric] = &[Metric {
        name: "hax_route_event_duration_seconds",
        help: "From the start of an event handler to its end.",
    }];

    fn nth(&self) -> usize {
        self.kind() as usize
    }

    fn took(&self) -> Option<(usize, Duration)> {
        let Self::Worked { us, .. } = self else { return None };
        Some((0, Duration::from_micros(*us)))
    }
}

impl From<Failure> for Fact {
    fn from(Failure { what, why, .. }: Failure) -> Self {
        Self::ConsulFailed { what, why }
    }
}

impl From<Fact> for Output<Fact> {
    fn from(fact: Fact) -> Self {
        Self::Fact(fact)
    }
}
