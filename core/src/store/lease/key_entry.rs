//! The content of a lease's key.

use alloc::boxed::Box;

use serde::Deserialize;

use crate::consul::json::{self, KvEntry};
use crate::consul::port::Answer;

/// The maximum term. A higher one was not written by a lease, and there has to be one after it.
pub(super) const TERM_MAX: u64 = u64::MAX / 2;

/// The holder of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its name; empty if the key's value is not that of a lease.
    pub name: Box<str>,
    /// Its term.
    pub term: u64,
}

/// The content of the key in a read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KeyEntry {
    pub(super) session: Option<Box<str>>,
    pub(super) holder: Box<str>,
    pub(super) term: u64,
    pub(super) form: u32,
    /// The key's `ModifyIndex`; 0 if the key does not exist.
    pub(super) index: u64,
}

impl KeyEntry {
    pub(super) fn of(answer: &Answer) -> Option<Self> {
        #[derive(Default, Deserialize)]
        struct Value {
            v: u32,
            holder: Box<str>,
            term: u64,
        }
        if answer.status == 404 {
            let (session, holder) = (None, "".into());
            return Some(Self { session, holder, term: 0, form: 0, index: 0 });
        }
        let [entry]: [KvEntry<'_>; 1] = json::parse(&answer.body).ok()?;
        // A value in another format has no term, nor has one that no lease reaches. The lock of Consul counts
        // anyway.
        let value: Option<Value> = json::parse(&entry.bytes()?).ok();
        let value = value.filter(|value| value.term <= TERM_MAX);
        let Value { v, holder, term } = value.unwrap_or_default();
        let session = entry.session.filter(|session| !session.is_empty()).map(Into::into);
        Some(Self { session, holder, term, form: v, index: entry.modify_index })
    }
}
