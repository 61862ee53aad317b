//! `/v1/txn`: several operations on keys, of which all are executed or none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};

use super::http::{Answer, bad, decode};
use super::kv::Undo;
use super::rows::Entry;
use super::store::Store;
use super::{Consul, MAX_BODY, too_large};

const MAX_OPS: usize = 64;

/// One element of the body. The double knows only the operations on keys.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
struct Element {
    #[serde(rename = "KV")]
    kv: Option<Op>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
struct Op {
    verb: String,
    key: String,
    #[serde(deserialize_with = "from_base64")]
    value: Option<Bytes>,
    flags: u64,
    index: u64,
    session: String,
    /// Accepted without effect: there is only one namespace.
    namespace: String,
}

fn from_base64<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Bytes>, D::Error> {
    let Some(text) = Option::<String>::deserialize(d)? else { return Ok(None) };
    let bytes = STANDARD.decode(text);
    bytes.map(|b| Some(Bytes::from(b))).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _) => at,
            _ => 0,
        };
        serde::de::Error::custom(format!("illegal base64 data at input byte {at}"))
    })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    op_index: usize,
    what: String,
}

#[derive(Serialize)]
struct Done {
    #[serde(rename = "KV")]
    kv: Entry,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Outcome {
    results: Option<Vec<Done>>,
    errors: Option<Vec<Failure>>,
    #[serde(flatten)]
    read: Option<ReadMeta>,
}

/// The additional fields in the response to a transaction of reads: those of a query.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ReadMeta {
    index: u64,
    last_contact: u64,
    known_leader: bool,
    consistency_level: &'static str,
}

impl Op {
    fn writes(&self) -> bool {
        matches!(
            self.verb.as_str(),
            "set" | "delete" | "delete-cas" | "delete-tree" | "cas" | "lock" | "unlock"
        )
    }

    /// Returns the error of an operation that Consul refuses before the log sees it.
    fn refusal(&self, store: &Store) -> Option<String> {
        if self.key.is_empty() && self.verb != "delete-tree" {
            return Some("Must provide key".to_owned());
        }
        (self.verb == "lock" && store.lock_delayed(&self.key))
            .then(|| format!("failed to lock key {:?} due to lock delay", self.key))
    }

    fn entry(&self) -> Entry {
        Entry::new(&self.key, self.value.clone(), self.flags)
    }

    /// Applies the operation and returns its entries, with their values only where the operation asks for
    /// them.
    fn apply(&self, store: &mut Store, index: u64, undo: &mut Undo) -> Result<Vec<Entry>, String> {
        let key = &self.key;
        let written = |entry: Option<Entry>, why: &str| {
            let entry = entry.ok_or_else(|| why.replace("{}", &format!("{key:?}")))?;
            Ok(vec![Entry { value: None, ..entry }])
        };
        match self.verb.as_str() {
            "set" => written(Some(store.set(index, self.entry(), undo)), ""),
            "cas" => written(
                store.set_cas(index, self.entry(), self.index, undo),
                "failed to set key {}, index is stale",
            ),
            "lock" => written(
                store.lock(index, self.entry(), &self.session, undo)?,
                "failed to lock key {}, lock is already held",
            ),
            "unlock" => written(
                store.unlock(index, self.entry(), &self.session, undo)?,
                "failed to unlock key {}, lock isn't held, or is held by another session",
            ),
            "delete" => {
                store.delete(index, key, undo);
                Ok(Vec::new())
            }
            "delete-tree" => {
                store.delete_tree(index, key, undo);
                Ok(Vec::new())
            }
            "delete-cas" if store.delete_cas(index, key, self.index, undo) => Ok(Vec::new()),
            "delete-cas" => Err(format!("failed to delete key {key:?}, index is stale")),
            _ => self.read(store),
        }
    }

    fn read(&self, store: &Store) -> Result<Vec<Entry>, String> {
        let key = &self.key;
        let found = store.kv.get(key);
        let bare = |entry: &Entry| vec![Entry { value: None, ..entry.clone() }];
        match (self.verb.as_str(), found) {
            ("get", Some(entry)) => Ok(vec![entry.clone()]),
            ("get", None) => Err(format!("key {key:?} doesn't exist")),
            ("get-tree", _) => Ok(store.below(key).cloned().collect()),
            ("check-not-exists", None) => Ok(Vec::new()),
            ("check-not-exists", Some(_)) => Err(format!("key {key:?} exists")),
            ("check-session", None) => {
                Err(format!("failed to check session, key {key:?} doesn't exist"))
            }
            ("check-session", Some(entry)) if entry.session == self.session => Ok(bare(entry)),
            ("check-session", Some(entry)) => Err(format!(
                "failed session check for key {key:?}, current session {:?} != {:?}",
                entry.session, self.session
            )),
            ("check-index", None) => {
                Err(format!("failed to check index, key {key:?} doesn't exist"))
            }
            ("check-index", Some(entry)) if entry.modify_index == self.index => Ok(bare(entry)),
            ("check-index", Some(entry)) => Err(format!(
                "failed index check for key {key:?}, current modify index {} != {}",
                entry.modify_index, self.index
            )),
            (verb, _) => Err(format!("unknown KV verb {verb:?}")),
        }
    }
}

impl Consul {
    /// Handles the body of a `PUT` to `/v1/txn`.
    pub(super) fn txn(&mut self, body: &Bytes) -> Result<Answer, Answer> {
        if body.len() > MAX_BODY {
            return Err(too_large(body.len(), "txn_max_req_len"));
        }
        let elements: Vec<Element> =
            decode(body).map_err(|e| bad(format!("Failed to parse body: {e}")))?;
        if elements.len() > MAX_OPS {
            return Err(Answer::text(
                413,
                format!(
                    "Transaction contains too many operations ({} > {MAX_OPS})",
                    elements.len()
                ),
            ));
        }
        let ops: Vec<Op> = elements.into_iter().filter_map(|element| element.kv).collect();
        let writes = ops.iter().any(Op::writes);
        let outcome = self.outcome(&ops, writes);
        let status = if outcome.errors.is_some() { 409 } else { 200 };
        let answer = Answer::json_with_status(status, &outcome, self.pretty);
        if writes {
            return Ok(answer);
        }
        Ok(answer.with("X-Consul-Knownleader", "true").with("X-Consul-Lastcontact", "0"))
    }

    fn outcome(&mut self, ops: &[Op], writes: bool) -> Outcome {
        let read = (!writes).then_some(ReadMeta {
            index: 0,
            last_contact: 0,
            known_leader: true,
            consistency_level: "",
        });
        let refusals = ops.iter().enumerate();
        let refusals = refusals.filter_map(|(op_index, op)| {
            op.refusal(&self.store).map(|what| Failure { op_index, what })
        });
        let mut failures: Vec<Failure> = refusals.collect();
        if !failures.is_empty() {
            return Outcome { results: None, errors: Some(failures), read };
        }
        let index = if writes { self.store.next_index() } else { self.store.index };
        let mut undo = Undo::new(&self.store);
        let mut results = Vec::new();
        for (op_index, op) in ops.iter().enumerate() {
            // After a failure the other operations are still tried, so that the response has all failures.
            match op.apply(&mut self.store, index, &mut undo) {
                Ok(entries) => results.extend(entries.into_iter().map(|kv| Done { kv })),
                Err(what) => failures.push(Failure { op_index, what }),
            }
        }
        if failures.is_empty() {
            return Outcome { results: Some(results), errors: None, read };
        }
        undo.roll_back(&mut self.store);
        Outcome { results: None, errors: Some(failures), read }
    }
}
