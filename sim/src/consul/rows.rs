//! The rows of the servers' tables as plain data, with their field names in JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hax_core::base::time::Instant;
use serde::{Deserialize, Serialize, Serializer};

use super::http::duration;

/// The factor of a session's lifetime: the servers grant twice the requested TTL.
const TTL_FACTOR: u32 = 2;

// ---- keys and values -----------------------------------------------------------------------------

/// One key's value and attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    pub(super) lock_index: u64,
    pub(super) key: String,
    pub(super) flags: u64,
    #[serde(serialize_with = "base64_or_null")]
    pub(super) value: Option<Bytes>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) session: String,
    pub(super) create_index: u64,
    pub(super) modify_index: u64,
}

fn base64_or_null<S: Serializer>(value: &Option<Bytes>, s: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(bytes) => s.serialize_str(&STANDARD.encode(bytes)),
        None => s.serialize_none(),
    }
}

impl Entry {
    /// Creates an entry for a write. The write sets its indexes.
    pub(super) fn new(key: &str, value: Option<Bytes>, flags: u64) -> Self {
        Self {
            lock_index: 0,
            key: key.to_owned(),
            flags,
            // No value and an empty one are the same. Both are shown as none.
            value: value.filter(|bytes| !bytes.is_empty()),
            session: String::new(),
            create_index: 0,
            modify_index: 0,
        }
    }

    pub(super) fn same_as(&self, other: &Self) -> bool {
        self.lock_index == other.lock_index
            && self.flags == other.flags
            && self.session == other.session
            && self.value == other.value
    }
}

/// The tombstone of a deleted key or a deleted tree. It keeps the index of a prefix from falling when a key
/// below it is deleted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tombstone {
    pub(super) index: u64,
    pub(super) reaped_at: Instant,
}

// ---- the catalog ---------------------------------------------------------------------------------

/// Consul's name for a table of texts. An absent one is `null`.
pub(super) type Texts = Option<BTreeMap<String, String>>;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Node {
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[serde(rename = "Node")]
    pub(super) name: String,
    pub(super) address: String,
    pub(super) datacenter: &'static str,
    pub(super) tagged_addresses: Texts,
    pub(super) meta: Texts,
    pub(super) create_index: u64,
    pub(super) modify_index: u64,
}

/// A service of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) tags: Vec<String>,
    pub(super) address: String,
    pub(super) meta: Texts,
    pub(super) port: u32,
    pub(super) weights: Weights,
    pub(super) enable_tag_override: bool,
    pub(super) create_index: u64,
    pub(super) modify_index: u64,
}

/// The weights of a service in DNS responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Weights {
    pub(super) passing: u32,
    pub(super) warning: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

/// A check of a node, or of one of its services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Check {
    pub(super) node: String,
    #[serde(rename = "CheckID")]
    pub(super) id: String,
    pub(super) name: String,
    pub(super) status: String,
    pub(super) notes: String,
    pub(super) output: String,
    #[serde(rename = "ServiceID")]
    pub(super) service_id: String,
    pub(super) service_name: String,
    pub(super) service_tags: Vec<String>,
    #[serde(rename = "Type")]
    pub(super) kind: &'static str,
    pub(super) definition: BTreeMap<(), ()>,
    pub(super) create_index: u64,
    pub(super) modify_index: u64,
}

// ---- sessions ------------------------------------------------------------------------------------

/// A session's id: a UUID.
pub(super) type SessionId = String;

/// The effect of a session's loss on its keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Behavior {
    #[default]
    Release,
    Delete,
}

/// A check of a service, as a session refers to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServiceCheck {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Session {
    #[serde(rename = "ID")]
    pub(super) id: SessionId,
    pub(super) name: String,
    pub(super) node: String,
    #[serde(serialize_with = "nanoseconds")]
    pub(super) lock_delay: Duration,
    pub(super) behavior: Behavior,
    #[serde(rename = "TTL")]
    pub(super) ttl: String,
    pub(super) node_checks: Option<Vec<String>>,
    pub(super) service_checks: Option<Vec<ServiceCheck>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) checks: Vec<String>,
    pub(super) create_index: u64,
    pub(super) modify_index: u64,
}

fn nanoseconds<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u64(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}

impl Session {
    pub(super) fn check_ids(&self) -> impl Iterator<Item = &String> {
        let service = self.service_checks.iter().flatten().map(|check| &check.id);
        self.node_checks.iter().flatten().chain(&self.checks).chain(service)
    }

    /// Returns whether the session ends when this check of its node fails.
    pub(super) fn is_bound_to(&self, check: &str) -> bool {
        self.check_ids().any(|id| id == check)
    }

    /// Returns the session's lifetime without a renewal.
    pub(super) fn life(&self) -> Option<Duration> {
        let ttl = duration(&self.ttl).ok().filter(|ttl| !ttl.is_zero())?;
        Some(ttl * TTL_FACTOR)
    }
}
