//! A daemon with a well-behaved process and a Consul double. No bad input may change their states.

use std::net::SocketAddr;

use hax_sim::real::client;
use serde_json::Value;

use crate::daemon::{Ham, Hax, LIMIT, Place, double, fid};

/// The key of the well-behaved process.
pub(crate) const GOOD: u64 = 2;

pub(crate) struct Fixture {
    pub(crate) place: Place,
    pub(crate) consul: SocketAddr,
    pub(crate) hax: Hax,
    good: Ham,
    kv: Vec<u8>,
    states: Value,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// Starts the fixture with additional flags.
    pub(crate) fn with(more: &[&str]) -> Self {
        let (place, consul) = (Place::new(), double::consul());
        let mut flags = place.flags(consul);
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        let hax = Hax::start(&flags);
        place.ready();
        let mut good = place.ham(GOOD);
        good.entrypoint();
        good.say("process started");
        assert_eq!(good.delivered(), 0);
        let mut fixture = Self { place, consul, hax, good, kv: Vec::new(), states: Value::Null };
        (fixture.kv, fixture.states) = (fixture.read(), fixture.ask());
        fixture
    }

    fn read(&self) -> Vec<u8> {
        client::request(self.consul, LIMIT, "GET", "/v1/kv/?recurse", b"").unwrap().body
    }

    fn ask(&mut self) -> Value {
        let all: Vec<String> = (0..15).map(fid).collect();
        self.good.say(&format!("nvec-get {}", all.join(" ")));
        self.good.hears("the states", |said| said["id_of_get"].as_u64().is_some_and(|id| id != 0))
            ["notes"]
            .take()
    }

    /// Checks that the well-behaved process and an HTTP client are served, and that no state has changed.
    pub(crate) fn is_well(&mut self, after: &str) {
        assert_eq!(self.ask(), self.states, "after {after}");
        assert!(self.read() == self.kv, "Consul holds something else after {after}");
        let reply = self.place.ask("GET", "/readyz", b"");
        assert_eq!(reply.status, 200, "after {after}: {}", reply.text());
    }

    /// Returns the resident memory of the daemon, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.hax.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}
