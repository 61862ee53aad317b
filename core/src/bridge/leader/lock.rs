//! The decoding of Consul's responses about the lock `leader`: its holder and the candidates.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;

use crate::cluster::health::host_of;
use crate::consul::json::{self, KvEntry};

/// The service of our check. It is registered in Consul only while this node is a candidate.
pub(crate) const SERVICE: &str = "hax-leader";

/// The content of the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LockEntry {
    pub(crate) value: Box<str>,
    pub(crate) session: Option<Box<str>>,
}

/// Decodes a response to a query for the key.
pub(crate) fn read_entry(body: &[u8]) -> Option<LockEntry> {
    let [entry]: [KvEntry<'_>; 1] = json::parse(body).ok()?;
    let value = entry.bytes()?;
    let session = entry.session.filter(|session| !session.is_empty()).map(Into::into);
    Some(LockEntry { value: String::from_utf8_lossy(&value).into(), session })
}

/// Returns whether a value of the lock names no node: it is empty, or `elect` followed by digits.
pub(crate) fn is_unowned(value: &str) -> bool {
    let digits = value.strip_prefix("elect");
    value.is_empty() || digits.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
}

/// Returns the hosts in a response about the instances of a service (`/v1/health/service/…`).
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
