//! Sessions: their creation, their locks, and the events that end them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::http::{Answer, Target, bad, decode, duration, failed, print_duration};
use super::rows::{Behavior, ServiceCheck, Session, SessionId};
use super::store::Store;
use super::{Consul, Write};

const MIN_TTL: Duration = Duration::from_secs(10);
const MAX_TTL: Duration = Duration::from_secs(86_400);
/// The check that a session is bound to by default.
const SERF_HEALTH: &str = "serfHealth";

/// The body of `session/create`. Unlike other endpoints, Consul ignores unknown fields here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Create {
    name: String,
    node: Option<String>,
    #[serde(deserialize_with = "lock_delay")]
    lock_delay: Option<Duration>,
    behavior: String,
    #[serde(rename = "TTL")]
    ttl: String,
    node_checks: Option<Vec<String>>,
    service_checks: Option<Vec<ServiceCheck>>,
    checks: Option<Vec<String>>,
}

impl Default for Create {
    fn default() -> Self {
        Self {
            name: String::new(),
            node: None,
            lock_delay: None,
            behavior: String::new(),
            ttl: String::new(),
            node_checks: Some(vec![SERF_HEALTH.to_owned()]),
            service_checks: None,
            checks: Some(vec![SERF_HEALTH.to_owned()]),
        }
    }
}

impl Create {
    /// Merges the older and the newer field with checks of the node. Each has `serfHealth` as its default.
    fn settle_checks(&mut self) {
        let empty = |checks: &Option<Vec<String>>| checks.as_ref().is_none_or(Vec::is_empty);
        if empty(&self.checks) {
            self.node_checks = Some(Vec::new());
        } else if empty(&self.node_checks)
            || self.checks.as_ref().is_some_and(|checks| *checks == [SERF_HEALTH])
        {
            self.checks = None;
        }
    }
}

/// Decodes a lock delay. A text is a duration; a small number is in seconds, a large one in nanoseconds.
fn lock_delay<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Number(u64),
    }
    match Form::deserialize(d)? {
        Form::Text(text) => duration(&text).map(Some).map_err(serde::de::Error::custom),
        Form::Number(n) if n < 1000 => Ok(Some(Duration::from_secs(n))),
        Form::Number(n) => Ok(Some(Duration::from_nanos(n))),
    }
}

impl Store {
    /// Checks that the session exists and may hold locks.
    pub(super) fn valid_session(&self, id: &str) -> Result<(), String> {
        if id.is_empty() {
            return Err("missing session".to_owned());
        }
        well_formed(id)?;
        if self.sessions.contains_key(id) {
            return Ok(());
        }
        Err(format!("invalid session {id:?}"))
    }

    /// Ends a session and releases its locks.
    pub(super) fn destroy_session(&mut self, index: u64, id: &str) {
        if let Some(session) = self.sessions.remove(id) {
            self.tables.sessions = index;
            self.release_locks(index, &session.id, &session);
            self.session_changes.push((session.id, false));
        }
    }

    /// Ends the sessions that are bound to a check of a node.
    pub(super) fn invalidate_sessions_of_check(&mut self, index: u64, node: &str, check: &str) {
        self.invalidate_sessions(index, |session| {
            session.node == node && session.is_bound_to(check)
        });
    }

    /// Ends the sessions of a node.
    pub(super) fn invalidate_sessions_of_node(&mut self, index: u64, node: &str) {
        self.invalidate_sessions(index, |session| session.node == node);
    }

    fn invalidate_sessions(&mut self, index: u64, lost: impl Fn(&Session) -> bool) {
        let lost = self.sessions.values().filter(|session| lost(session));
        let lost: Vec<SessionId> = lost.map(|session| session.id.clone()).collect();
        for id in lost {
            self.destroy_session(index, &id);
        }
    }
}

/// Checks the format of a session id. Consul has an error of its own for a read with a malformed id.
pub(super) fn well_formed(id: &str) -> Result<(), String> {
    let failure = match id.len() {
        36 if id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') => return Ok(()),
        36 => "index error: invalid UUID format".to_owned(),
        _ => "index error: UUID must be 36 characters".to_owned(),
    };
    Err(format!("failed session lookup: {failure}"))
}

impl Consul {
    pub(super) fn session_create(&mut self, agent: usize, body: &[u8]) -> Result<Answer, Answer> {
        let ask: Create = if body.is_empty() {
            Create::default()
        } else {
            decode(body).map_err(|e| bad(format!("Request decode failed: {e}")))?
        };
        let session = self.session_from(agent, ask).map_err(failed)?;
        // A session that the state refuses uses an index of the log nevertheless.
        let index = self.store.next_index();
        self.check_session(&session).map_err(failed)?;
        let id = self.mint_uuid();
        let session =
            Session { id: id.clone(), create_index: index, modify_index: index, ..session };
        self.store.sessions.insert(id.clone(), session);
        self.store.tables.sessions = index;
        self.store.session_changes.push((id.clone(), true));
        Ok(Answer::json(&BTreeMap::from([("ID", id)]), self.pretty))
    }

    fn session_from(&self, agent: usize, mut ask: Create) -> Result<Session, String> {
        ask.settle_checks();
        if ask.node.as_deref() == Some("") {
            return Err("Must provide Node".to_owned());
        }
        let behavior = match ask.behavior.as_str() {
            "" | "release" => Behavior::Release,
            "delete" => Behavior::Delete,
            other => return Err(format!("Invalid Behavior setting '{other}'")),
        };
        if !ask.ttl.is_empty() {
            let ttl = duration(&ask.ttl)
                .map_err(|e| format!("Session TTL '{}' invalid: {e}", ask.ttl))?;
            if !ttl.is_zero() && !(MIN_TTL..=MAX_TTL).contains(&ttl) {
                let range = (print_duration(MIN_TTL), print_duration(MAX_TTL));
                return Err(format!(
                    "Invalid Session TTL '{}', must be between [{}={}]",
                    ttl.as_nanos(),
                    range.0,
                    range.1
                ));
            }
        }
        Ok(Session {
            id: SessionId::new(),
            name: ask.name,
            node: ask.node.unwrap_or_else(|| self.agents[agent].node.clone()),
            lock_delay: ask.lock_delay.unwrap_or(Duration::from_secs(15)),
            behavior,
            ttl: ask.ttl,
            node_checks: ask.node_checks,
            service_checks: ask.service_checks,
            checks: ask.checks.unwrap_or_default(),
            create_index: 0,
            modify_index: 0,
        })
    }

    fn check_session(&self, session: &Session) -> Result<(), String> {
        if !self.store.nodes.contains_key(&session.node) {
            return Err("Missing node registration".to_owned());
        }
        for id in session.check_ids() {
            match self.store.checks.get(&(session.node.clone(), id.clone())) {
                None => return Err(format!("Missing check '{id}' registration")),
                Some(check) if check.status == "critical" => {
                    return Err(format!("Check '{id}' is in critical state"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    pub(super) fn session_destroy(&mut self, id: &str) -> Result<Answer, Answer> {
        if id.is_empty() {
            return Err(bad("Missing session"));
        }
        well_formed(id).map_err(failed)?;
        let index = self.store.next_index();
        self.store.destroy_session(index, id);
        Ok(Answer::json(&true, self.pretty))
    }

    pub(super) fn session_renew(&mut self, id: &str) -> Result<Answer, Answer> {
        if id.is_empty() {
            return Err(bad("Missing session"));
        }
        well_formed(id).map_err(failed)?;
        let Some(session) = self.store.sessions.get(id) else {
            return Err(Answer::text(404, format!("Session id '{id}' not found")));
        };
        let answer = Answer::json(&[session], self.pretty);
        self.arm_session(id);
        Ok(answer)
    }

    /// Routes the writes of `/v1/session/`.
    pub(super) fn session_write(&mut self, agent: usize, write: &Write<'_>) -> Option<Answer> {
        let rest = write.target.path.strip_prefix("/v1/session/")?;
        let (verb, id) = rest.split_once('/').unwrap_or((rest, ""));
        let result = match verb {
            "create" => self.session_create(agent, write.body),
            "destroy" => self.session_destroy(id),
            "renew" => self.session_renew(id),
            _ => return None,
        };
        Some(result.unwrap_or_else(|refusal| refusal))
    }
}

/// Returns the id in the path of a read, or the refusal if it is missing.
pub(super) fn id_in(target: &Target, prefix: &str, missing: &str) -> Result<String, Answer> {
    match target.path.strip_prefix(prefix) {
        Some(id) if !id.is_empty() => Ok(id.to_owned()),
        _ => Err(bad(missing)),
    }
}
