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
    /// All state is deleted.
    Warn Erased { nodes: usize } "stopped by ha_api: {nodes} redundancy nodes are deleted";
    /// A stop has begun.
    Info Stopping {} "stopping: what was begun is finished first";
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
