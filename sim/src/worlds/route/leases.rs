//! Rules for the leases of groups. They are worked out from the calls of a router and Consul's responses,
//! without the router's own view.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hax_core::base::id::CallId;
use hax_core::consul::json::{KvEntry, parse};
use hax_core::consul::port::{Call, Command, Method, Reply};
use serde_json::Value;

use super::groups::{GROUPS, Groups, group_named, key};
use crate::consul::Consul;
use crate::engine::{MS, Violation};

/// The maximum time for the start of a handler on a healthy host, in µs.
pub(super) const STARTS: u64 = 300 * MS;

/// A call in flight that may prove a lease.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Session,
    Read(usize),
    Acquire(usize),
}

/// The proof of a lease.
#[derive(Clone, Debug)]
struct Proof {
    session: String,
    /// The sending time of the call, in µs.
    sent: u64,
}

/// The state of one router in its current life.
#[derive(Debug, Default)]
struct Router {
    calls: BTreeMap<CallId, (Asked, u64, Bytes)>,
    sessions: BTreeSet<String>,
    proofs: [Option<Proof>; GROUPS.len()],
    /// Until these times Consul withholds each lease from the other router, whatever this router has read
    /// since. A handler that is being killed may still write.
    withheld: [u64; GROUPS.len()],
}

impl Router {
    /// Observes a proof of a lease, which is valid for `hold` µs from its sending.
    fn proves(&mut self, group: usize, proof: Proof, hold: u64) {
        self.withheld[group] = self.withheld[group].max(proof.sent + hold);
        self.proofs[group] = Some(proof);
    }
}

/// The time of a router as the holder of a lease.
#[derive(Clone, Debug)]
pub(super) struct Tenure {
    pub(super) router: usize,
    pub(super) term: u64,
    /// The members whose routes may lead elsewhere for a good reason: a failed handler, or another writer.
    pub(super) troubled: BTreeSet<u16>,
}

/// The leases of all groups.
#[derive(Debug)]
pub(super) struct Leases {
    config: Groups,
    names: [&'static str; 2],
    routers: [Router; 2],
    /// The holders and terms that Consul has had.
    holders: BTreeSet<(usize, String, u64)>,
    /// The newest term that a router has gained, and the router.
    newest: [Option<(u64, usize)>; GROUPS.len()],
    tenures: [Option<Tenure>; GROUPS.len()],
    /// Until this time a holder from before a restored snapshot may act.
    restored_until: u64,
}

impl Leases {
    pub(super) fn new(config: Groups, names: [&'static str; 2]) -> Self {
        Self {
            config,
            names,
            routers: Default::default(),
            holders: BTreeSet::new(),
            newest: [None; GROUPS.len()],
            tenures: Default::default(),
            restored_until: 0,
        }
    }

    /// Returns the time until which a router is certain of a lease, in µs.
    fn certain_until(&self, router: usize, group: usize) -> u64 {
        let proof = &self.routers[router].proofs[group];
        proof.as_ref().map_or(0, |proof| proof.sent + self.config.hold_us())
    }

    /// Returns the holder's tenure.
    pub(super) fn tenure(&self, group: usize) -> Option<&Tenure> {
        self.tenures[group].as_ref()
    }

    /// Observes that the route of a member may lead elsewhere for a good reason.
    pub(super) fn trouble(&mut self, group: usize, index: u16) {
        if let Some(tenure) = &mut self.tenures[group] {
            tenure.troubled.insert(index);
        }
    }

    // ---- the calls of a router --------------------------------------------------------------------

    pub(super) fn died(&mut self, router: usize) {
        self.routers[router] = Router::default();
        self.ends(router, None);
    }

    /// Ends the tenure of a router, in one group or in all.
    pub(super) fn ends(&mut self, router: usize, group: Option<usize>) {
        for (nth, tenure) in self.tenures.iter_mut().enumerate() {
            if group.is_none_or(|group| group == nth) {
                tenure.take_if(|tenure| tenure.router == router);
            }
        }
    }

    /// Observes a command of a router to Consul.
    pub(super) fn gives(&mut self, now: u64, router: usize, command: &Command) {
        let of = &mut self.routers[router];
        match command {
            Command::Cancel(id) => {
                of.calls.remove(id);
            }
            Command::Call(call) => {
                if let Some(asked) = asked(call) {
                    of.calls.insert(call.id, (asked, now, call.body.clone()));
                }
                let target = &*call.target;
                for (group, proof) in of.proofs.iter_mut().enumerate() {
                    let is_given_back = target.starts_with(&format!("/v1/kv/{}?rel", key(group)));
                    let is_ended = |proof: &mut Proof| target.ends_with(&proof.session);
                    if is_given_back {
                        *proof = None;
                        of.withheld[group] = 0;
                    } else if target.starts_with("/v1/session/destroy/") {
                        proof.take_if(is_ended);
                    }
                }
            }
        }
    }

    /// Observes a response of Consul just before the router takes it.
    pub(super) fn hears(&mut self, router: usize, reply: &Reply) {
        let hold = self.config.hold_us();
        let of = &mut self.routers[router];
        let Some((asked, sent, body)) = of.calls.remove(&reply.id) else { return };
        let Ok(answer) = &reply.result else { return };
        if answer.status != 200 {
            return;
        }
        match asked {
            Asked::Session => {
                let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                of.sessions.extend(value["ID"].as_str().map(str::to_owned));
            }
            Asked::Read(group) => {
                let Ok([entry]) = parse::<[KvEntry<'_>; 1]>(&answer.body) else { return };
                let session = entry.session.unwrap_or_default().to_string();
                if !of.sessions.contains(&session) {
                    of.proofs[group] = None;
                    return;
                }
                let before = of.proofs[group].as_ref().filter(|proof| proof.session == session);
                let sent = before.map_or(sent, |proof| proof.sent.max(sent));
                of.proves(group, Proof { session, sent }, hold);
            }
            Asked::Acquire(group) => {
                let result: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                if result["Results"].is_array()
                    && let Some(session) = session_of(&body)
                {
                    of.proves(group, Proof { session, sent }, hold);
                }
            }
        }
    }

    // ---- Consul -----------------------------------------------------------------------------------

    /// Observes the keys after a write at Consul.
    pub(super) fn look(&mut self, consul: &Consul) {
        for group in 0..GROUPS.len() {
            let name = key(group);
            let Some(held) = consul.entry(&name).filter(|held| !held.session.is_empty()) else {
                continue;
            };
            let value: Value = serde_json::from_slice(held.value).unwrap_or_default();
            if let (Some(holder), Some(term)) = (value["holder"].as_str(), value["term"].as_u64()) {
                self.holders.insert((group, holder.to_owned(), term));
            }
        }
    }

    pub(super) fn on_restore(&mut self, now: u64) {
        // The terms go back.
        self.newest = [None; GROUPS.len()];
        self.restored_until = now + self.config.hold_us();
    }

    // ---- the rules --------------------------------------------------------------------------------

    /// Checks a router's gain of a lease.
    pub(super) fn gains(
        &mut self,
        now: u64,
        router: usize,
        (group, term): (usize, u64),
    ) -> Result<(), Violation> {
        let other = 1 - router;
        let until = self.routers[other].withheld[group];
        self.tenures[group] = Some(Tenure { router, term, troubled: BTreeSet::new() });
        if now >= self.restored_until {
            if until > now {
                let text = format!("{router} in term {term}, and {other} for {} µs", until - now);
                return Violation::of(
                    "a lease is gained once nobody else can be certain of it",
                    text,
                );
            }
            if let Some((newest, by)) = self.newest[group].filter(|(newest, _)| term <= *newest) {
                let text = format!("{router} in term {term} after {by} in term {newest}");
                return Violation::of("the terms of a lease grow", text);
            }
        }
        self.newest[group] = Some((term, router));
        Ok(())
    }

    /// Checks the start of a handler under a lease. It has to end by `end`.
    pub(super) fn begins(
        &self,
        (router, group): (usize, usize),
        end: u64,
    ) -> Result<(), Violation> {
        let until = self.certain_until(router, group);
        if end <= until {
            return Ok(());
        }
        let text = format!("router {router} may run a handler for {} µs longer", end - until);
        Violation::of("a handler ends while its router is certain of the lease", text)
    }

    /// Checks the beginning of a write to a table that takes any write.
    pub(super) fn writes(
        &self,
        now: u64,
        (router, group): (usize, usize),
        term: u64,
    ) -> Result<(), Violation> {
        if now >= self.routers[router].withheld[group] {
            let text = format!("router {router} writes in term {term}");
            return Violation::of("a write begins while nobody else can have the lease", text);
        }
        match self.newest[group].filter(|(newest, by)| *newest > term && *by != router) {
            Some((newest, by)) if now >= self.restored_until => {
                let text = format!("{router} in term {term}, and {by} gained term {newest}");
                Violation::of("nobody writes after a later holder", text)
            }
            _ => Ok(()),
        }
    }

    /// Checks that a text names only holders that there were. It says "NAME holds KEY in term TERM".
    pub(super) fn names(&self, text: &str) -> Result<(), Violation> {
        for (before, after) in text
            .match_indices(" holds ha/route/")
            .map(|(at, found)| (&text[..at], &text[at + found.len()..]))
        {
            let name = before.rsplit([' ', '"', '\\']).next().unwrap_or_default();
            let (group, rest) = after.split_once(" in term ").unwrap_or_default();
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let term = rest[..digits].parse().unwrap_or(0);
            let found = group_named(group).map(|group| (group, name.to_owned(), term));
            if found.is_none_or(|found| !self.holders.contains(&found)) {
                return Violation::of("who is refused is told the holder", text);
            }
        }
        Ok(())
    }

    /// Returns the router that holds a lease according to Consul.
    pub(super) fn holder(&self, consul: &Consul, group: usize) -> Option<usize> {
        let name = key(group);
        let held = consul.entry(&name).filter(|held| !held.session.is_empty())?;
        let value: Value = serde_json::from_slice(held.value).ok()?;
        self.names.iter().position(|name| value["holder"] == **name)
    }
}

/// Returns the meaning of a call for a lease, if it has one.
fn asked(call: &Call) -> Option<Asked> {
    let target = &*call.target;
    let is_of = |group: &usize| target == format!("/v1/kv/{}?consistent", key(*group));
    match call.method {
        Method::Get => (0..GROUPS.len()).find(is_of).map(Asked::Read),
        Method::Put if target == "/v1/session/create" => Some(Asked::Session),
        Method::Put if target == "/v1/txn" => {
            let text = String::from_utf8_lossy(&call.body);
            let locks = |group: &usize| text.contains(&format!("\"{}\"", key(*group)));
            let is_lock = text.contains("\"lock\"");
            (0..GROUPS.len()).find(locks).filter(|_| is_lock).map(Asked::Acquire)
        }
        Method::Put | Method::Delete => None,
    }
}

/// Returns the group whose lease a command gives up.
pub(super) fn released(command: &Command) -> Option<usize> {
    let Command::Call(call) = command else { return None };
    let is_of =
        |group: &usize| call.target.starts_with(&format!("/v1/kv/{}?release=", key(*group)));
    (0..GROUPS.len()).find(is_of)
}

/// Returns the session of an acquiring transaction.
fn session_of(body: &[u8]) -> Option<String> {
    let ops: Value = serde_json::from_slice(body).ok()?;
    let of = |op: &Value| op["KV"]["Session"].as_str().map(str::to_owned);
    ops.as_array()?.iter().find_map(of)
}
