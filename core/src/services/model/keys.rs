//! The keys of services in Consul.
//!
//! | key | written by | what |
//! |---|---|---|
//! | `ha/type/TYPE` | operators, through any node | [`TypeRecord`](super::kind::TypeRecord) |
//! | `ha/schema/ID` | the same | [`SchemaRecord`](super::schema::SchemaRecord) |
//! | `ha/config/TYPE` | the same | [`ConfigRecord`](super::record::ConfigRecord) |
//! | `ha/goal/TYPE` | the coordinator | [`Goal`](super::record::Goal) |
//! | `ha/inst/NODE/TYPE/wanted` | the coordinator | [`Wanted`](super::record::Wanted) |
//! | `ha/inst/NODE/TYPE/observed` | the node | [`Observed`](super::record::Observed) |
//! | `ha/job/NODE/TYPE` | the coordinator | [`Job`](super::record::Job) |
//! | `ha/name/NODE/NAME` | the node | [`NameRecord`](super::record::NameRecord) |
//! | `ha/node/NODE/lease` | the node | its lease: it lives while the key is locked |
//! | `ha/node/NODE/record` | the node | [`NodeRecord`](super::record::NodeRecord) |
//! | `ha/sup/NODE` | the coordinator | [`Supervision`](super::supervision::Supervision) |
//! | `ha/ev/NODE/RUN-N` | the node; the coordinator deletes it | [`Event`](super::record::Event) |
//! | `ha/rule/…` | the coordinator | [`Notice`](super::record::Notice), until the programs have heard of it |
//! | `ha/coord` | coordinators | the lease of the coordinator |

use alloc::format;
use alloc::string::String;

use super::name::{NodeName, TypeName};

/// The key of the coordinator's lease.
pub const COORD: &str = "ha/coord";
/// The prefix of types.
pub const TYPES: &str = "ha/type/";
/// The prefix of schemas.
pub const SCHEMAS: &str = "ha/schema/";
/// The prefix of stored parameters.
pub const CONFIGS: &str = "ha/config/";
/// The prefix of goals.
pub const GOALS: &str = "ha/goal/";
/// The prefix of instances.
pub const INSTANCES: &str = "ha/inst/";
/// The prefix of jobs.
pub const JOBS: &str = "ha/job/";
/// The prefix of names.
pub const NAMES: &str = "ha/name/";
/// The prefix of nodes.
pub const NODES: &str = "ha/node/";
/// The prefix of what supervisors watch.
pub const SUPERVISION: &str = "ha/sup/";
/// The prefix of notices for rule programs.
pub const NOTICES: &str = "ha/rule/";
/// The prefix of events.
pub const EVENTS: &str = "ha/ev/";

/// The two keys of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// What the coordinator wants.
    Wanted,
    /// What the node has seen.
    Observed,
}

/// Returns the key of one side of an instance.
#[must_use]
pub fn instance(node: &NodeName, kind: &TypeName, side: Side) -> String {
    let side = match side {
        Side::Wanted => "wanted",
        Side::Observed => "observed",
    };
    format!("{INSTANCES}{node}/{kind}/{side}")
}

/// Returns the prefix of a node's instances.
#[must_use]
pub fn instances(node: &NodeName) -> String {
    format!("{INSTANCES}{node}/")
}

/// Returns node, type and side of an instance's key.
#[must_use]
pub fn parse_instance(key: &str) -> Option<(NodeName, TypeName, Side)> {
    let mut parts = key.strip_prefix(INSTANCES)?.split('/');
    let (node, kind, side) = (parts.next()?, parts.next()?, parts.next()?);
    let side = match side {
        "wanted" => Side::Wanted,
        "observed" => Side::Observed,
        _ => return None,
    };
    let whole = parts.next().is_none();
    Some((NodeName::new(node)?, TypeName::new(kind)?, side)).filter(|_| whole)
}

/// Returns the key of an instance's job.
#[must_use]
pub fn job(node: &NodeName, kind: &TypeName) -> String {
    format!("{JOBS}{node}/{kind}")
}

/// Returns node and type of a job's key.
#[must_use]
pub fn parse_job(key: &str) -> Option<(NodeName, TypeName)> {
    let (node, kind) = key.strip_prefix(JOBS)?.split_once('/')?;
    Some((NodeName::new(node)?, TypeName::new(kind)?))
}

/// Returns the key of a name.
#[must_use]
pub fn name(node: &NodeName, name: &str) -> String {
    format!("{NAMES}{node}/{name}")
}

/// Returns the key of a node's lease.
#[must_use]
pub fn lease(node: &NodeName) -> String {
    format!("{NODES}{node}/lease")
}

/// Returns the key of a node's record.
#[must_use]
pub fn node(node: &NodeName) -> String {
    format!("{NODES}{node}/record")
}

/// Returns the node of a key below [`NODES`], and the rest of the key.
#[must_use]
pub fn parse_node(key: &str) -> Option<(NodeName, &str)> {
    let (node, rest) = key.strip_prefix(NODES)?.split_once('/')?;
    Some((NodeName::new(node)?, rest))
}

/// Returns the key of an event. Keys of later events of a node are greater.
#[must_use]
pub fn event(node: &NodeName, run: u64, n: u64) -> String {
    format!("{EVENTS}{node}/{run:016x}-{n:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_written() {
        let (node_name, kind) = (NodeName::new("ssu1.x").unwrap(), TypeName::new("web").unwrap());
        for side in [Side::Wanted, Side::Observed] {
            let key = instance(&node_name, &kind, side);
            assert!(key.starts_with(&instances(&node_name)));
            assert_eq!(parse_instance(&key), Some((node_name.clone(), kind.clone(), side)));
        }
        assert_eq!(parse_job(&job(&node_name, &kind)), Some((node_name.clone(), kind)));
        assert_eq!(parse_node(&lease(&node_name)), Some((node_name.clone(), "lease")));
        assert!(event(&node_name, 1, 255) < event(&node_name, 1, 256));
        assert!(event(&node_name, 15, 9) < event(&node_name, 16, 0));
        for key in ["ha/inst/a/b", "ha/inst/a/b/c", "ha/inst/a/b/wanted/x", "x/a/b/wanted"] {
            assert_eq!(parse_instance(key), None, "{key}");
        }
    }
}
