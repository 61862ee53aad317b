//! A session of Consul with heartbeats from its owner.
//!
//! The session depends on the node's own check (`serfHealth`) and on the check of a service that is
//! registered with the agent only for this purpose. The check's TTL is short, so the locks of an owner that
//! is gone or stuck are free soon. The agent accepts heartbeats also while it is cut off from its servers, so
//! a heartbeat proves nothing to others.

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

/// The configuration of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The service of the check, and the check's id; one for each session of an agent's node.
    pub check: Box<str>,
    /// The title of the check, for operators.
    pub title: Box<str>,
    /// The TTL of the check; at least one second, which is Consul's minimum.
    pub ttl: Duration,
    /// The lock delay: Consul withholds a lost lock from other sessions for this time (at most 60 s).
    pub lock_delay: Duration,
}

/// The purpose of a call to Consul.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The registration of the service and its check with the agent.
    Register,
    /// A heartbeat: it sets the check to passing.
    Beat,
    /// The creation of a session.
    Create,
    /// A call at the end. Its reply is not needed.
    Leave,
}

/// The check with its heartbeats, for the dependent sessions. The owner keeps the session's id.
#[derive(Debug)]
pub struct Session {
    config: Config,
    registered: bool,
    /// The sending time of the heartbeat in flight.
    beating: Option<Instant>,
    /// The sending time of the last accepted heartbeat.
    beat: Option<Instant>,
}

impl Session {
    /// Creates a session without registering its check.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, registered: false, beating: None, beat: None }
    }

    /// Returns whether the agent has our check, as far as is known.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.registered
    }

    /// Returns the sending time of the last accepted heartbeat.
    #[must_use]
    pub fn last_beat(&self) -> Option<Instant> {
        self.beat
    }

    /// Returns the interval of heartbeats.
    #[must_use]
    pub fn pause(&self) -> Duration {
        self.config.ttl * 3 / 10
    }

    /// Sends a heartbeat, unless one is in flight. If the agent does not have the check, this registers it.
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

    /// Handles the reply to a heartbeat or to the registration. Returns whether the agent accepted it.
    pub fn on_beat(&mut self, answer: Option<&Answer>) -> bool {
        let sent = self.beating.take();
        // A lost check is registered again with the next heartbeat.
        self.registered = answer.is_some_and(|answer| answer.status == 200);
        if self.registered {
            self.beat = self.beat.max(sent);
        }
        self.registered
    }

    /// Handles the cancellation of all calls: the reply to a heartbeat in flight does not come any more.
    pub fn cancelled(&mut self) {
        self.beating = None;
    }

    /// Creates a session. It fails if the catalog does not have our check yet.
    pub fn create<K: Kinds>(&self, cx: &mut Cx<'_, K>, of: impl Fn(Call) -> K::Continuation) {
        let Config { check, lock_delay, .. } = &self.config;
        let (check, delay) = (quoted(check), lock_delay.as_millis());
        let body = format!(
            r#"{{"Name":{check},"LockDelay":"{delay}ms","Checks":["serfHealth",{check}]}}"#
        );
        cx.put(of(Call::Create), url::CREATE_SESSION.into(), body.into());
    }

    /// Deregisters the check. The owner cancels the calls in flight.
    pub fn leave<K: Kinds>(&mut self, cx: &mut Cx<'_, K>, of: impl Fn(Call) -> K::Continuation) {
        (self.beating, self.beat) = (None, None);
        if core::mem::take(&mut self.registered) {
            cx.put(of(Call::Leave), url::deregister(&self.config.check), Bytes::new());
        }
    }
}

/// Returns the id of a created session; `None` after a failure.
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

/// Destroys a session of this or of a former run. A session has no TTL of its own, and would live as long as
/// our check passes.
pub fn destroy<K: Kinds>(cx: &mut Cx<'_, K>, leave: K::Continuation, id: &str) {
    cx.put(leave, url::destroy_session(id), Bytes::new());
}
