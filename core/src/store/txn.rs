//! Transactions: sending, and the interpretation of the reply (Consul API: Transactions).

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::base::id::CallId;
use crate::consul::json::{self, OpError, OpResult, Transaction};
use crate::consul::op::{self, Op};
use crate::consul::port::Answer;
use crate::consul::url;
use crate::machine::{Cx, Kinds};

/// The limits of one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The maximum number of operations (Consul: 64).
    pub ops: usize,
    /// The maximum size of the body, in bytes (Consul: 512 KiB).
    pub bytes: usize,
}

impl Limits {
    /// Consul's own limits.
    pub const CONSUL: Self = Self { ops: 64, bytes: 512 * 1024 };

    /// Returns how many of these operations one transaction holds; at least one.
    pub fn fitting<'a>(self, ops: impl IntoIterator<Item = &'a Op>) -> usize {
        let mut room = self.bytes;
        let fits = |op: &&Op| room.checked_sub(op.len()).map(|rest| room = rest).is_some();
        ops.into_iter().take(self.ops).take_while(fits).count().max(1)
    }
}

/// Sends one transaction. Consul commits all of its operations or none.
pub fn send<'o, K: Kinds>(
    cx: &mut Cx<'_, K>,
    job: K::Continuation,
    ops: impl IntoIterator<Item = &'o Op>,
) -> CallId {
    let body = op::body(ops).into();
    cx.put(job, url::TXN.into(), body)
}

/// The outcome of a transaction.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// The transaction is committed. The results are in the order of the operations.
    Applied(Vec<OpResult<'a>>),
    /// The transaction is rejected because of these operations, given by their positions: they conflict with
    /// Consul's data.
    Conflict(Vec<usize>),
    /// The transaction is rejected: the token lacks a permission.
    Denied(Box<str>),
    /// It is unknown whether the transaction is committed. The text describes an invalid response.
    Unknown(Option<Box<str>>),
}

impl<'a> Outcome<'a> {
    /// Interprets a response, or `None` for a missing one.
    #[must_use]
    pub fn of(answer: Option<&'a Answer>) -> Self {
        let Some(Answer { status, body, .. }) = answer else { return Self::Unknown(None) };
        match (status, json::parse::<Transaction<'_>>(body)) {
            (200, Ok(Transaction { results, .. })) => Self::Applied(results.unwrap_or_default()),
            (409, Ok(Transaction { errors: Some(errors), .. })) => {
                match errors.iter().find_map(OpError::refusal) {
                    Some(why) => Self::Denied(why),
                    None => Self::Conflict(errors.iter().map(|error| error.op_index).collect()),
                }
            }
            (_, Ok(_)) => Self::Unknown(Some("not about what was asked".into())),
            (_, Err(why)) => Self::Unknown(Some(why)),
        }
    }

    /// Returns whether the transaction is committed.
    #[must_use]
    pub fn is_applied(&self) -> bool {
        matches!(self, Self::Applied(_))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn outcome(status: u16, body: &'static str) -> alloc::string::String {
        let answer = Answer { status, index: 0, body: Bytes::from_static(body.as_bytes()) };
        let outcome = Outcome::of(Some(&answer));
        alloc::format!("{outcome:?}")
    }

    #[test]
    fn every_answer_has_one_meaning() {
        let applied = outcome(200, r#"{"Results":[{"KV":{"Key":"a","ModifyIndex":7}}]}"#);
        assert!(applied.starts_with("Applied") && applied.contains('7'), "{applied}");
        let conflict = r#"{"Errors":[{"OpIndex":2,"What":"index is stale"}]}"#;
        assert_eq!(outcome(409, conflict), "Conflict([2])");
        let denied = outcome(409, r#"{"Errors":[{"OpIndex":0,"What":"Permission denied"}]}"#);
        assert!(denied.starts_with("Denied"), "{denied}");
        for (status, body) in [(200, "cut"), (409, "{}"), (404, ""), (409, r#"{"Results":[]}"#)] {
            assert!(outcome(status, body).starts_with("Unknown(Some"), "{status} {body}");
        }
        assert!(matches!(Outcome::of(None), Outcome::Unknown(None)));
    }

    #[test]
    fn a_transaction_is_within_consuls_limits() {
        let ops: Vec<Op> = (0..100).map(|n| Op::set("k", &[0; 100][..n])).collect();
        let limits = Limits { ops: 10, bytes: 1 << 20 };
        assert_eq!(limits.fitting(&ops), 10);
        let few = Limits { ops: 64, bytes: 1_000 }.fitting(&ops);
        assert!(op::body(&ops[..few]).len() <= 1_000 && few > 3, "{few}");
        assert_eq!(Limits { ops: 64, bytes: 1 }.fitting(&ops), 1, "one is always tried");
    }
}
