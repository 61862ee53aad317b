//! What the server reports that it did or saw.

use alloc::boxed::Box;
use core::time::Duration;

use super::node::Index;
use crate::base::fact::{Kind, Metric, Report};
use crate::machine::{Failure, Output};

crate::facts! {
    /// The redundancy nodes are read.
    Info Loaded { nodes: usize } "serves: {nodes} redundancy nodes";
    /// The file cannot be used.
    Error Unusable { path: Box<str>, why: Box<str> } "cannot use the file {path}, which stays as it is: {why}";
    /// A redundancy node is another one now.
    Info Changed { index: Index, how: &'static str } "node {index}: {how}";
    /// The file could not be written, and so nothing was changed.
    Warn NotWritten { path: Box<str>, why: Box<str> } "cannot write {path}: {why}; what was asked for is not done";
    /// A client was told that what it asks for cannot be done.
    Info Refused { why: Box<str> } "refused: {why}";
    /// An event has occurred.
    Info Occurred { index: Index, event: &'static str, response: &'static str } "node {index}: {event}: {response}";
    /// An event handler has done its work.
    Info Worked { index: Index, event: &'static str, detail: Box<str>, us: u64 }
        "node {index}: {event}: {detail} ({ms} ms)", ms = us / 1_000;
    /// An event handler has failed.
    Warn Failed { index: Index, event: &'static str, why: Box<str> } "node {index}: {event} failed: {why}";
    /// A route leads where it should.
    Debug Confirmed { index: Index, detail: Box<str> } "node {index}: {detail}";
    /// Somebody else had changed a route.
    Warn Mended { index: Index, detail: Box<str> } "node {index}: somebody else had changed it: {detail}";
    /// Somebody else changes a route again and again.
    Warn Contested { index: Index }
        "node {index}: somebody else changes it again and again; it is left to them until the next event";
    /// The lease of a group is held.
    Info Gained { group: Box<str>, term: u64 } "group {group}: this router acts, in term {term}";
    /// The lease of a group is another's, or nobody's.
    Warn Lost { group: Box<str>, why: Box<str> } "group {group}: this router acts no more: {why}";
    /// The lease of a group could not be proved.
    Warn Lapsed { group: Box<str> } "group {group}: this router stops acting: Consul does not say that it may";
    /// The lease of a group is proved again.
    Info Proved { group: Box<str> } "group {group}: this router acts again";
    /// The holder of a lease is asked for it.
    Info Asks { group: Box<str>, holder: Box<str>, term: u64 } "group {group}: asks {holder} (term {term}) to hand over";
    /// Another router asks for the lease.
    Info Asked { group: Box<str>, by: Box<str> } "group {group}: {by} asks to take over";
    /// The lease is given up to who has asked for it.
    Info HandedOver { group: Box<str>, to: Box<str> } "group {group}: handed over to {to}";
    /// The other router's service is critical.
    Warn PeerFailed { service: Box<str> } "{service} fails: peerFail on all nodes";
    /// The other router's service is well.
    Info PeerWell { service: Box<str> } "{service} is well";
    /// The other router's service is not in Consul's catalog.
    Warn PeerUnknown { service: Box<str> } "{service} is not in Consul's catalog: its failure would not be seen";
    /// This router has been well for a while.
    Info Returned {} "well again for a while: revert on all primaries";
    /// All state is deleted.
    Warn Erased { nodes: usize } "stopped by ha_api: {nodes} redundancy nodes are deleted";
    /// A stop has begun.
    Info Stopping {} "stopping: the work in progress is finished first";
    /// All is settled.
    Info Stopped {} "stopped; the redundancy nodes are kept";
    /// Consul did not answer.
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
