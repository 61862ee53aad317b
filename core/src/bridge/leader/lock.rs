//! What Consul says of the lock `leader`: who holds it, and who stands for election.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;

use crate::cluster::health::host_of;
use crate::consul::json::{self, KvEntry};

/// The service whose check is ours; it stands in Consul only while we stand for election.
pub(crate) const SERVICE: &str = "hax-leader";

/// What the key holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LockEntry {
    pub(crate) value: Box<str>,
    pub(crate) session: Option<Box<str>>,
}

/// Reads an answer to a query for the key.
pub(crate) fn read_entry(body: &[u8]) -> Option<LockEntry> {
    let [entry]: [KvEntry<'_>; 1] = json::parse(body).ok()?;
    let value = entry.bytes()?;
    let session = entry.session.filter(|session| !session.is_empty()).map(Into::into);
    Some(LockEntry { value: String::from_utf8_lossy(&value).into(), session })
}

/// Whether a value of the lock names no node: `elect` and digits, or nothing.
pub(crate) fn is_unowned(value: &str) -> bool {
    let digits = value.strip_prefix("elect");
    value.is_empty() || digits.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
}

/// The hosts in an answer about the instances of a service (`/v1/health/service/…`).
pub(crate) fn hosts(body: &[u8]) -> Option<Vec<Box<str>>> {
    #[derive(Deserialize)]
    struct Instance<'a> {
        #[serde(borrow, rename = "Node")]
        node: Node<'a>,
    }
    #[derive(Deserialize)]
    struct Node<'a> {
        #[serde(borrow, rename = "Node")]
        name: Cow<'a, str>,
    }
    let all: Vec<Instance<'_>> = json::parse(body).ok()?;
    Some(all.iter().map(|instance| host_of(&instance.node.name).into()).collect())
}
