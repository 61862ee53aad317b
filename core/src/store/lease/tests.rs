//! A lease after the restore of a snapshot: the term goes backwards, and no lock is withheld.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::*;
use crate::base::id::CallId;
use crate::base::time::{Next, Now, WallClock};
use crate::consul::port;
use crate::ha::fact::Fact;
use crate::machine::{Kept, Kinds, Limits, Output};

const BELIEF: Duration = Duration::from_secs(3);

#[derive(Debug)]
struct OnlyLease;

impl Kinds for OnlyLease {
    type Continuation = Call;
    type Timer = Timer;
    type Output = Output<Fact>;
    type Shared = ();
}

/// A lease with a session, and its host.
struct Rig {
    kept: Kept<OnlyLease>,
    lease: Lease,
    now: Now,
}

/// The result of a step.
#[derive(Debug, Default, PartialEq, Eq)]
struct Came {
    change: Option<Change>,
    /// The targets of the calls.
    calls: Vec<String>,
}

impl Rig {
    fn new() -> Self {
        let limits = Limits { call: BELIEF, answer_bytes: 1024 };
        let lease = Lease::new(Config {
            key: "key".into(),
            holder: "us".into(),
            check: "check".into(),
            ttl: Duration::from_secs(1),
            belief: BELIEF,
            watch: Duration::from_secs(10),
        });
        let now = Now { mono: Instant::from_micros(1_000_000), wall: WallClock(0) };
        let mut rig = Self { kept: Kept::new(CallId::first(0), 1, limits, ()), lease, now };
        rig.step(|lease, cx| {
            lease.stand(cx);
            None
        });
        rig.answer(Call::Session(session::Call::Register), "");
        rig.answer(Call::Session(session::Call::Create), r#"{"ID":"ours"}"#);
        rig
    }

    fn step(
        &mut self,
        work: impl FnOnce(&mut Lease, &mut Cx<'_, OnlyLease>) -> Option<Change>,
    ) -> Came {
        let mut out = Vec::new();
        let change = work(&mut self.lease, &mut self.kept.cx(self.now, &mut out));
        let calls = out.into_iter().filter_map(|output| {
            let Output::Consul(port::Command::Call(call)) = output else { return None };
            Some(call.target)
        });
        Came { change, calls: calls.collect() }
    }

    fn answer(&mut self, call: Call, body: &str) -> Came {
        let answer = Answer { status: 200, index: 7, body: Bytes::from(body.to_string()) };
        self.step(|lease, cx| lease.on_answer(cx, call, Some(&answer)))
    }

    /// Handles a read of the key: this session holds it, in this term.
    fn read(&mut self, session: Option<&str>, term: u64) -> Came {
        use base64::Engine as _;
        let value = format!(r#"{{"v":1,"holder":"them","term":{term}}}"#);
        let value = base64::engine::general_purpose::STANDARD.encode(value);
        let session = session.map(|id| format!(r#","Session":"{id}""#)).unwrap_or_default();
        let entry = format!(
            r#"[{{"Key":"key","Value":"{value}","ModifyIndex":7,"CreateIndex":7,"LockIndex":1,"Flags":0{session}}}]"#
        );
        self.answer(Call::Read, &entry)
    }

    /// Advances the time to the lease's next timer.
    fn pass(&mut self) -> Came {
        let Next::WaitUntil { at, .. } = self.kept.next() else { panic!("nothing is armed") };
        self.now.mono = at;
        self.step(|lease, cx| {
            let timer = cx.next_due()?;
            lease.on_timer(cx, timer)
        })
    }

    /// Advances the time until the key is read; returns the elapsed time.
    fn read_again(&mut self) -> Duration {
        let began = self.now.mono;
        while !self.pass().calls.iter().any(|target| *target == url::read("key")) {}
        self.now.mono.since(began)
    }
}

#[test]
fn a_lease_whose_term_went_back_is_not_taken_while_its_last_holder_may_believe() {
    let mut rig = Rig::new();
    rig.read(Some("theirs"), 5);
    rig.answer(Call::Watch, "");
    assert_eq!(rig.read(None, 3), Came::default());
    assert_eq!(rig.read_again(), BELIEF);
    let came = rig.read(None, 3);
    assert_eq!(came.calls, [url::TXN], "and then it is");
}

#[test]
fn a_lock_that_a_snapshot_gave_back_is_let_go() {
    let mut rig = Rig::new();
    rig.read(Some("theirs"), 5);
    rig.answer(Call::Watch, "");
    let came = rig.read(Some("ours"), 3);
    assert_eq!(came.change, None);
    assert_eq!(came.calls, ["/v1/session/destroy/ours"]);
}

#[test]
fn a_lease_that_is_free_is_taken_at_once() {
    let mut rig = Rig::new();
    rig.read(Some("theirs"), 5);
    rig.answer(Call::Watch, "");
    assert_eq!(rig.read(None, 5).calls, [url::TXN]);
}

/// What ends the session first makes the next one wait for the lock's delay.
#[test]
fn the_session_ends_once_the_key_is_given_back() {
    let mut rig = Rig::new();
    rig.read(None, 5);
    rig.answer(Call::Acquire, r#"{"Results":[]}"#);
    assert_eq!(rig.lease.term(), Some(6));
    let came = rig.step(|lease, cx| {
        lease.resign(cx);
        None
    });
    assert_eq!(came.calls, [url::release("key", "ours")]);
    let came = rig.answer(Call::Release, "true");
    assert_eq!(came.calls, ["/v1/session/destroy/ours", "/v1/agent/service/deregister/check"]);
}

#[test]
fn a_lease_that_is_wanted_again_keeps_its_check() {
    let mut rig = Rig::new();
    rig.read(None, 5);
    rig.answer(Call::Acquire, r#"{"Results":[]}"#);
    rig.step(|lease, cx| {
        lease.resign(cx);
        lease.stand(cx);
        None
    });
    let came = rig.answer(Call::Release, "true");
    assert_eq!(came.calls, ["/v1/session/destroy/ours"]);
    assert_eq!(rig.answer(Call::Session(session::Call::Beat), "").calls, [url::CREATE_SESSION]);
}

/// The heartbeat in flight is cancelled with everything else, so its reply must not be waited for.
#[test]
fn a_lease_that_is_wanted_again_goes_on_with_its_heartbeats() {
    let mut rig = Rig::new();
    rig.read(None, 5);
    rig.answer(Call::Acquire, r#"{"Results":[]}"#);
    while !rig.pass().calls.contains(&url::pass("check")) {}
    rig.step(|lease, cx| {
        lease.resign(cx);
        None
    });
    let came = rig.step(|lease, cx| {
        lease.stand(cx);
        None
    });
    assert_eq!(came.calls, [url::pass("check")]);
}

/// Whoever may write the key must not be able to end the program.
#[test]
fn a_term_that_no_lease_reaches_is_none() {
    let mut rig = Rig::new();
    assert_eq!(rig.read(None, u64::MAX).calls, [url::TXN]);
    rig.answer(Call::Acquire, r#"{"Results":[]}"#);
    assert_eq!(rig.lease.term(), Some(1));
    let mut rig = Rig::new();
    rig.lease.raise(u64::MAX);
    rig.read(None, 3);
    rig.read_again();
    rig.read(None, 3);
    rig.answer(Call::Acquire, r#"{"Results":[]}"#);
    assert_eq!(rig.lease.term(), Some(u64::MAX / 4 + 1));
}
