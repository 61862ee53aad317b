//! A session of Consul that lives as long as its owner beats.
//!
//! It hangs on the node's own check (`serfHealth`) and on the check of a service that is registered with the
//! agent for this alone, whose TTL is short: so the locks of an owner that is gone or stuck are free soon.
//! The agent takes beats also while it is cut off from its servers: a beat proves nothing to others.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use core::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use crate::base::time::Instant;
use crate::consul::json;
use crate::consul::op::quoted;
use crate::consul::port::{Answer, Method};
use crate::consul::url;
use crate::machine::{Cx, Kinds};

/// What a session hangs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The service that carries the check, and the check's id; one for each session of an agent's node.
    pub check: Box<str>,
    /// What operators read of the check.
    pub title: Box<str>,
    /// How long Consul believes in us without a beat; at least one second, which is the shortest that it
    /// keeps.
    pub ttl: Duration,
    /// How long Consul keeps a lock from others that the session has lost (at most 60 s).
    pub lock_delay: Duration,
}

/// What a call to Consul is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The service and its check are made known to the agent.
    Register,
    /// The check passes.
    Beat,
    /// A session is made.
    Create,
    /// What nobody waits for at the end.
    Leave,
}

/// The check that beats, and the sessions that hang on it. Whoever owns it keeps the id of the session.
#[derive(Debug)]
pub struct Session {
    config: Config,
    registered: bool,
    /// When the beat in flight was sent.
    beating: Option<Instant>,
    /// When the last one was sent that the agent took.
    beat: Option<Instant>,
}

impl Session {
    /// Nothing is registered yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, registered: false, beating: None, beat: None }
    }

    /// Whether the agent has our check, as far as is known.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.registered
    }

    /// When the last beat was sent that the agent took.
    #[must_use]
    pub fn last_beat(&self) -> Option<Instant> {
        self.beat
    }

    /// How soon the next beat is due.
    #[must_use]
    pub fn pause(&self) -> Duration {
        self.config.ttl * 3 / 10
    }

    /// Beats, unless the last beat has no answer yet. An agent that does not know the check is told of it.
    pub fn beat<K: Kinds>(&mut self, cx: &mut Cx<'_, K>, of: impl Fn(Call) -> K::Continuation) {
        if self.beating.is_some() {
            return;
        }
        self.beating = Some(cx.now().mono);
        let Config { check, title, ttl, .. } = &self.config;
        if self.registered {
            let target = url::pass(check);
            cx.call(of(Call::Beat), Method::Put, target, Bytes::new(), *ttl);
        } else {
            let (name, title, ttl) = (quoted(check), quoted(title), ttl.as_millis());
            let body = format!(
                r#"{{"ID":{name},"Name":{name},"Check":{{"CheckID":{name},"Name":{title},"TTL":"{ttl}ms","Status":"passing","DeregisterCriticalServiceAfter":"10m"}}}}"#
            );
            cx.put(of(Call::Register), url::REGISTER.into(), body.into());
        }
    }

    /// A beat or the registration has its answer. Returns whether the agent took it.
    pub fn on_beat(&mut self, answer: Option<&Answer>) -> bool {
        let sent = self.beating.take();
        // An agent that has lost our check is told of it again.
        self.registered = answer.is_some_and(|answer| answer.status == 200);
        if self.registered {
            self.beat = self.beat.max(sent);
        }
        self.registered
    }

    /// Makes a session. The catalog may not have our check yet, and then there is none.
    pub fn create<K: Kinds>(&self, cx: &mut Cx<'_, K>, of: impl Fn(Call) -> K::Continuation) {
        let Config { check, lock_delay, .. } = &self.config;
        let (check, delay) = (quoted(check), lock_delay.as_millis());
        let body = format!(
            r#"{{"Name":{check},"LockDelay":"{delay}ms","Checks":["serfHealth",{check}]}}"#
        );
        cx.put(of(Call::Create), url::CREATE_SESSION.into(), body.into());
    }

    /// Takes the check from the agent. Calls in flight are the owner's to cancel.
    pub fn leave<K: Kinds>(&mut self, cx: &mut Cx<'_, K>, of: impl Fn(Call) -> K::Continuation) {
        (self.beating, self.beat) = (None, None);
        if core::mem::take(&mut self.registered) {
            cx.put(of(Call::Leave), url::deregister(&self.config.check), Bytes::new());
        }
    }
}

/// The id of the session that was made; nothing if there is none.
#[must_use]
pub fn created(answer: Option<&Answer>) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct Created<'a> {
        #[serde(borrow, rename = "ID")]
        id: Cow<'a, str>,
    }
    let answer = answer.filter(|answer| answer.status == 200)?;
    json::parse::<Created<'_>>(&answer.body).ok().map(|created| created.id.into())
}

/// Ends a session, ours or that of a former life. It has no TTL of its own, and would live as long as our
/// check passes.
pub fn destroy<K: Kinds>(cx: &mut Cx<'_, K>, leave: K::Continuation, id: &str) {
    cx.put(leave, url::destroy_session(id), Bytes::new());
}
