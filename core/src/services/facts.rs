//! The facts of both parts of the machine: of the node's part, and of the coordinator.

use core::fmt;
use core::time::Duration;

use super::coord::fact as coord;
use super::fact as node;
use crate::base::fact::{Kind, Metric, Report, joined};
use crate::machine::{Failure, FailureKind, Output};

/// A fact of one of the two parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServicesFact {
    /// Of the node's part.
    Node(node::Fact),
    /// Of the coordinator.
    Coord(coord::Fact),
}

const NODES: usize = node::FactKind::KINDS.len();
const COORDS: usize = coord::FactKind::KINDS.len();

/// The kinds of both, those of the node first.
const ALL: [Kind; NODES + COORDS] = joined(node::FactKind::KINDS, coord::FactKind::KINDS);

impl Report for ServicesFact {
    const KINDS: &'static [Kind] = &ALL;

    const LATENCIES: &'static [Metric] = &[];

    fn nth(&self) -> usize {
        match self {
            Self::Node(fact) => fact.kind() as usize,
            Self::Coord(fact) => NODES + fact.kind() as usize,
        }
    }

    fn took(&self) -> Option<(usize, Duration)> {
        None
    }
}

impl fmt::Display for ServicesFact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(fact) => write!(f, "services: {fact}"),
            Self::Coord(fact) => write!(f, "coordinator: {fact}"),
        }
    }
}

impl From<Failure> for ServicesFact {
    fn from(Failure { what, why, kind, .. }: Failure) -> Self {
        let why = match kind {
            FailureKind::New | FailureKind::Again => why,
            FailureKind::Refused => alloc::format!("{why}: the token may not do this").into(),
        };
        Self::Node(node::Fact::ConsulFailed { what, why })
    }
}

impl From<node::Fact> for ServicesFact {
    fn from(fact: node::Fact) -> Self {
        Self::Node(fact)
    }
}

impl From<node::Fact> for Output<ServicesFact> {
    fn from(fact: node::Fact) -> Self {
        Self::Fact(ServicesFact::Node(fact))
    }
}

impl From<coord::Fact> for Output<ServicesFact> {
    fn from(fact: coord::Fact) -> Self {
        Self::Fact(ServicesFact::Coord(fact))
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_kinds_have_one_name() {
        let names: BTreeSet<_> =
            ServicesFact::KINDS.iter().map(|kind| (kind.machine, kind.name)).collect();
        assert_eq!(names.len(), ServicesFact::KINDS.len(), "a counter is named after its kind");
    }
}
