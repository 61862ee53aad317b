//! The facts that a node's part reports about its actions and observations.

use alloc::boxed::Box;

use super::model::name::TypeName;
use crate::keeper::name::InstanceId;

crate::facts! {
    "services";
    /// The node's records are written, and instances may be started.
    Info Manages { instances: usize, living: usize, run: u64 }
        "manages {instances} instances, of which {living} live (run {run:x})";
    /// The keeper can be reached.
    Info KeeperUp { generation: u64, instances: usize } "the keeper (generation {generation}) has {instances} instances";
    /// The keeper cannot be reached.
    Warn KeeperDown { why: Box<str> } "the keeper cannot be reached, so nothing is started or stopped: {why}";
    /// An instance is being started.
    Info Starts { kind: TypeName, instance: InstanceId } "{kind}: starts {instance}";
    /// An instance runs and is ready.
    Info Runs { kind: TypeName, instance: InstanceId, pid: u32 } "{kind}: {instance} runs (process {pid})";
    /// An instance that an earlier run of hax has started is alive.
    Info Found { kind: TypeName, instance: InstanceId } "{kind}: {instance} has been running meanwhile";
    /// An instance is being stopped.
    Info Stops { kind: TypeName, instance: InstanceId } "{kind}: stops {instance}";
    /// An instance has been stopped.
    Info Stopped { kind: TypeName, instance: InstanceId } "{kind}: {instance} is stopped";
    /// An instance has ended by itself with success.
    Info Ended { kind: TypeName, instance: InstanceId, why: Box<str> } "{kind}: {instance} has ended: {why}";
    /// An instance has failed.
    Warn Failed { kind: TypeName, why: Box<str> } "{kind}: failed: {why}";
    /// An instance has announced its end.
    Info Announced { kind: TypeName, why: Box<str> } "{kind}: announces its end: {why}";
    /// An instance holds a resource.
    Info Holds { instance: InstanceId, resource: Box<str> } "{instance} holds {resource}";
    /// An instance has released a resource.
    Info LetGo { instance: InstanceId, resource: Box<str> } "{instance} has released {resource}";
    /// A message is being delivered to an instance.
    Info Sends { instance: InstanceId, message: Box<str> } "{instance} gets the message {message}";
    /// The state of an instance, because somebody has asked for it.
    Info StatusOf { instance: InstanceId, state: &'static str, pid: u32, why: Box<str> } "status of {instance}: {state} (process {pid}) {why}";
    /// An instance passes its check again.
    Info Recovered { kind: TypeName } "{kind}: passes its check again";
    /// The keeper has an instance of no known type.
    Warn Stranger { instance: InstanceId } "{instance} is in the keeper's table, and Consul knows no such instance; it is left alone";
    /// A record cannot be used.
    Warn Unusable { key: Box<str>, why: Box<str> } "{key} cannot be used and stays as it is: {why}";
    /// Another program has written a record of this node.
    Info Rewritten { key: Box<str> } "{key} was changed by somebody else; it is read again";
    /// A request was committed.
    Info Asked { what: &'static str, of: Box<str>, by: Box<str> } "{what} {of}, asked by {by}";
    /// A request was refused.
    Info Refused { why: Box<str> } "refused: {why}";
    /// A stop has begun.
    Info Leaving {} "stopping; the instances continue to run";
    /// The stop is complete.
    Info Left {} "stopped";
    /// Consul did not respond, or responded with an error.
    Warn ConsulFailed { what: &'static str, why: Box<str> } "Consul: {what}: {why}";
}
