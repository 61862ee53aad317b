//! The facts that the recovery coordinator reports.

use alloc::boxed::Box;

use crate::services::model::name::{NodeName, TypeName};

crate::facts! {
    "coordinator";
    /// This node's coordinator has become the recovery coordinator.
    Info Leads { term: u64 } "coordinates in term {term}";
    /// This node's coordinator is no longer the recovery coordinator.
    Warn Yields { why: Box<str> } "coordinates no more: {why}";
    /// All records have been read.
    Debug Listed { types: usize, instances: usize, events: usize }
        "has read {types} types, {instances} instances and {events} events";
    /// A transaction with the effects of events is committed.
    Debug Committed { events: usize, ops: usize } "{events} events are worked, with {ops} operations";
    /// The records have changed in another way than by this coordinator.
    Info Overtaken {} "the records were changed by somebody else; they are read again";
    /// An instance is to be started.
    Info Wants { kind: TypeName, node: NodeName, serial: u64, why: Box<str> } "{kind} on {node}: start {serial}: {why}";
    /// An instance is to be started after a delay.
    Info Delays { kind: TypeName, node: NodeName, ms: u64 } "{kind} on {node}: starts again in {ms} ms";
    /// An instance is to be stopped.
    Info Ends { kind: TypeName, node: NodeName, why: Box<str> } "{kind} on {node}: is to stop: {why}";
    /// An instance is not started again, because there were too many short lives.
    Warn GaveUp { kind: TypeName, node: NodeName, why: Box<str> } "{kind} on {node}: given up: {why}";
    /// An instance was not ready, or not stopped, in time.
    Warn Overdue { kind: TypeName, node: NodeName, what: &'static str } "{kind} on {node}: {what}";
    /// A new configuration has been proved.
    Info Current { kind: TypeName, node: NodeName, revision: Box<str> } "{kind} on {node}: configuration {revision} is current";
    /// A new configuration has failed too often, and the last one returns.
    Warn Returned { kind: TypeName, node: NodeName, why: Box<str> } "{kind} on {node}: the last configuration returns: {why}";
    /// A node has come up.
    Info NodeUp { node: NodeName } "{node} is up";
    /// A node has gone.
    Warn NodeDown { node: NodeName } "{node} is down: its session has ended";
    /// A node that does not return is forgotten, with all its records.
    Info NodeForgotten { node: NodeName } "{node} is forgotten";
    /// A request could not be carried out.
    Warn CannotDo { kind: TypeName, why: Box<str> } "{kind}: {why}";
    /// A rule program is started.
    Info RuleRuns { program: Box<str>, event: Box<str> } "{program} hears of {event}";
    /// A rule program has failed, or its answer cannot be used. Nothing that it asks for is done.
    Warn RuleFailed { program: Box<str>, why: Box<str> } "{program}: {why}";
    /// This node has no program for an event that another node has noted.
    Warn RuleMissing { event: Box<str> } "no program here hears of {event}, as one on another node does";
    /// A record cannot be used.
    Warn Unreadable { key: Box<str>, why: Box<str> } "{key} cannot be used and stays as it is: {why}";
}
