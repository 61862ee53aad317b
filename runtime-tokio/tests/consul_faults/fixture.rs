//! A real Consul with three nodes as hare's bootstrap leaves them.

use hax_sim::cluster::{Cluster, Endpoints, Shape};
use hax_sim::consul::Watch;
use hax_sim::real::{Options, RealConsul, available};
use serde_json::Value;

use crate::daemon::{Ham, Hax, Place, fid, until};

pub(crate) struct Fixture {
    pub(crate) consul: RealConsul,
    pub(crate) place: Place,
}

impl Fixture {
    /// Starts a Consul whose data survives it, for a hax that is not started yet.
    ///
    /// Returns `None` and prints the reason if there is no Consul.
    pub(crate) fn durable() -> Option<Self> {
        Self::with(|options, _| Options { durable: true, ..options })
    }

    /// Starts a Consul that posts the health of services to the hax of this place.
    pub(crate) fn watching() -> Option<Self> {
        Self::with(|options, place| {
            let url = format!("http://{}/", place.http());
            options.watch(Watch::Service("ios".into()), &url)
        })
    }

    fn with(choose: impl FnOnce(Options, &Place) -> Options) -> Option<Self> {
        if !available() {
            return None;
        }
        let place = Place::new();
        let consul = RealConsul::start(choose(Options::new("ssu1"), &place)).unwrap();
        let shape = Shape::like_hare(3).with_endpoints(Endpoints::Sock);
        consul.load_cluster(&Cluster::generate(&shape)).unwrap();
        Some(Self { consul, place })
    }

    pub(crate) fn start(&self) -> Hax {
        let hax = Hax::start(&self.place.flags(self.consul.http_addr));
        self.place.ready();
        hax
    }

    /// Starts the dead Consul again.
    ///
    /// The start of its agent ends the leader's session, as in a cluster, so another leader is elected.
    pub(crate) fn restart_consul(&mut self) {
        self.consul.restart().unwrap();
        self.lead();
    }

    /// Elects a leader on this node, as soon as there is none and a session can be created.
    pub(crate) fn lead(&self) {
        let create = br#"{"LockDelay": "0s"}"#;
        until("the lock is held", || {
            let made = self.consul.request("PUT", "/v1/session/create", create);
            let Ok(made) = made.map(|reply| reply.text()) else { return false };
            let made: Value = serde_json::from_str(&made).unwrap_or_default();
            let Some(session) = made["ID"].as_str() else { return false };
            let lock = format!("/v1/kv/leader?acquire={session}");
            self.done("PUT", &lock, "ssu1").trim() == "true"
        });
    }

    /// Raises Consul's index above the index of each payload of a test: hax does not trust a payload that is
    /// newer than Consul.
    pub(crate) fn age(&self) {
        for n in 0..200 {
            self.done("PUT", "/v1/kv/age", &n.to_string());
        }
        self.done("PUT", "/v1/agent/check/fail/service:3", "");
        self.done("PUT", "/v1/agent/check/pass/service:3", "");
        let passes = || {
            let checks = self.done("GET", "/v1/health/checks/s3service", "");
            !checks.contains("\"critical\"")
        };
        let index = || {
            let reply = self.consul.request("GET", "/v1/health/state/none", b"").unwrap();
            reply.index().unwrap_or(0)
        };
        until("the checks are as old", || passes() && index() > 200);
        let index = index();
        // A read in flight would not contain a check that is posted meanwhile.
        until("hax knows it", || {
            let status: Value =
                serde_json::from_slice(&self.place.ask("GET", "/status", b"").body).unwrap();
            status["replicas"][2]["index"].as_u64().is_some_and(|known| known >= index)
        });
    }

    /// Starts a process that has its link.
    pub(crate) fn linked(&self, key: u64) -> Ham {
        let mut ham = self.place.ham(key);
        ham.entrypoint();
        ham
    }

    /// Returns the state in `processes/<fid>`.
    pub(crate) fn state(&self, key: u64) -> String {
        let target = format!("/v1/kv/processes/{}?raw", fid(key));
        let said: Value =
            serde_json::from_slice(&self.consul.request("GET", &target, b"").unwrap().body)
                .unwrap();
        said["state"].as_str().unwrap().trim_start_matches("M0_CONF_HA_PROCESS_").to_owned()
    }

    /// Sends a request that must succeed. Returns the body.
    pub(crate) fn done(&self, method: &str, target: &str, body: &str) -> String {
        let reply = self.consul.request(method, target, body.as_bytes()).unwrap();
        assert_eq!(reply.status, 200, "{method} {target}: {}", reply.text());
        reply.text()
    }
}
