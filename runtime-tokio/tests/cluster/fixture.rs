//! Three nodes as hare's bootstrap leaves them, each with a Consul server, a hax and processes.

use hax_sim::cluster::{Cluster, Endpoints, Shape};
use hax_sim::consul::Watch;
use hax_sim::real::{Options, RealConsul, available};
use serde_json::Value;

use crate::daemon::{Ham, Hax, Place, fid, until};
use crate::old::OldDaemon;
use crate::proxy::Proxy;

/// The keys of the processes on the wire: a confd and an I/O process on each node.
const CONFDS: [u64; 3] = [1, 6, 11];
const IOS: [u64; 3] = [2, 7, 12];

pub(crate) struct Fixture {
    consuls: Vec<RealConsul>,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) hax: Vec<Hax>,
    places: Vec<Place>,
    hams: Vec<(u64, Ham)>,
    old: OldDaemon,
    /// The events of the processes in order. The old daemon has to receive all of them.
    said: Vec<(u64, &'static str)>,
}

impl Fixture {
    pub(crate) fn start() -> Option<Self> {
        if !available() {
            return None;
        }
        let old = OldDaemon::new();
        let places: Vec<Place> = (0..3).map(|_| Place::new()).collect();
        let options = places.iter().enumerate().map(|(node, place)| {
            let url = format!("http://{}/", place.http());
            let mut options = Options::new(&format!("ssu{}", node + 1));
            for service in ["hax", "confd", "ios"] {
                options = options.watch(Watch::Service(service.into()), &url);
            }
            options = options.watch(Watch::KeyPrefix("bq/".into()), &format!("{url}watcher/bq"));
            if node == 2 {
                let url = format!("http://{}/", old.address);
                options = options.watch(Watch::KeyPrefix("bq/".into()), &url);
            }
            options
        });
        let consuls = RealConsul::start_servers(options.collect()).unwrap();
        let shape = Shape::like_hare(3).with_endpoints(Endpoints::Sock);
        RealConsul::load_servers(&consuls, &Cluster::generate(&shape)).unwrap();
        let proxies: Vec<Proxy> =
            consuls.iter().map(|consul| Proxy::to(consul.http_addr)).collect();
        let hax = (0..3).map(|node| start_hax(&places, &proxies, node)).collect();
        let (hams, said) = (Vec::new(), Vec::new());
        let mut fixture = Self { consuls, proxies, hax, places, hams, old, said };
        // The configuration comes with a leader that does not exist.
        let leader = fixture.read("leader");
        let session = leader["Session"].as_str().unwrap().to_owned();
        fixture.done(0, "PUT", &format!("/v1/kv/leader?release={session}"), "");
        until("somebody leads", || fixture.leading().is_some());
        for node in 0..3 {
            fixture.places[node].ready();
            fixture.begin(CONFDS[node]);
            fixture.begin(IOS[node]);
        }
        Some(fixture)
    }

    fn node_of(key: u64) -> usize {
        usize::try_from(key / 5).unwrap()
    }

    /// Starts a process and waits until it has its link.
    fn begin(&mut self, key: u64) {
        self.hams.retain(|(known, _)| *known != key);
        let mut ham = self.places[Self::node_of(key)].ham(key);
        ham.entrypoint();
        self.hams.push((key, ham));
    }

    pub(crate) fn ham(&mut self, key: u64) -> &mut Ham {
        let found = self.hams.iter_mut().find(|(known, _)| *known == key);
        &mut found.expect("it runs").1
    }

    /// Returns a Consul server that responds.
    fn consul(&self) -> &RealConsul {
        // While the servers elect their leader, none responds.
        let well = || self.consuls.iter().find(|consul| consul.sees(1));
        until("a Consul answers", || well().is_some());
        well().unwrap_or(&self.consuls[0])
    }

    fn done(&self, node: usize, method: &str, target: &str, body: &str) {
        let reply = self.consuls[node].request(method, target, body.as_bytes()).unwrap();
        assert_eq!(reply.status, 200, "{method} {target}: {}", reply.text());
    }

    fn read(&self, key: &str) -> Value {
        let reply = self.consul().request("GET", &format!("/v1/kv/{key}"), b"");
        let Ok(reply) = reply else { return Value::Null };
        serde_json::from_slice::<Value>(&reply.body).unwrap_or_default()[0].clone()
    }

    /// Returns the node that holds the lock.
    pub(crate) fn leading(&self) -> Option<usize> {
        let leader = self.read("leader");
        leader["Session"].as_str()?;
        ["c3N1MQ==", "c3N1Mg==", "c3N1Mw=="].iter().position(|name| leader["Value"] == *name)
    }

    pub(crate) fn leader(&self) -> usize {
        until("somebody leads", || self.leading().is_some());
        self.leading().expect("just seen")
    }

    /// Returns the state in `processes/<fid>`.
    pub(crate) fn state(&self, key: u64) -> String {
        let target = format!("/v1/kv/processes/{}?raw", fid(key));
        state_in(&self.consul().request("GET", &target, b"").unwrap().body)
    }

    /// Starts an I/O process anew and reports its events. Checks that the confds of these nodes get its
    /// state.
    pub(crate) fn everybody_is_told(&mut self, nodes: &[usize], key: u64, what: &str) {
        self.begin(key);
        for event in ["starting", "started", "dtm-recovered"] {
            self.ham(key).say(&format!("process {event}"));
        }
        for event in ["STARTING", "STARTED", "DTM_RECOVERED"] {
            self.said.push((key, event));
        }
        self.is_delivered(key, 3);
        assert_eq!(self.state(key), "DTM_RECOVERED", "{what}");
        let confds: Vec<u64> = nodes.iter().map(|node| CONFDS[*node]).collect();
        for (known, ham) in &self.hams {
            if confds.contains(known) {
                ham.is_told(key, "ONLINE");
            }
        }
    }

    /// Checks that the confds of the other nodes get a state.
    pub(crate) fn told_by_others(&self, key: u64, state: &str) {
        for (known, ham) in &self.hams {
            if CONFDS.contains(known) && Self::node_of(*known) != Self::node_of(key) {
                ham.is_told(key, state);
            }
        }
    }

    /// Waits for the acknowledgement of this number of events.
    pub(crate) fn is_delivered(&mut self, key: u64, events: usize) {
        for _ in 0..events {
            let _number = self.ham(key).delivered();
        }
    }

    pub(crate) fn restart_hax(&mut self, node: usize) {
        self.hax[node] = start_hax(&self.places, &self.proxies, node);
        self.places[node].ready();
        // The processes send a request again, as processes do that lost their hax.
        self.begin(CONFDS[node]);
        self.begin(IOS[node]);
    }

    /// Returns the node whose Consul leads the servers.
    pub(crate) fn servers_leader(&self) -> usize {
        let leads = || self.consuls.iter().position(RealConsul::leads_servers);
        until("the servers have a leader", || leads().is_some());
        leads().expect("just seen")
    }

    /// Waits until all servers vote.
    ///
    /// A server that has just joined does not vote for 10 to 20 s (autopilot, `ServerStabilizationTime`).
    /// With two voters the cluster has no quorum while one of them is paused.
    fn all_vote(&self) {
        until("three servers vote", || {
            let target = "/v1/operator/raft/configuration";
            let reply = self.consul().request("GET", target, b"");
            let Ok(reply) = reply else { return false };
            let found = serde_json::from_slice::<Value>(&reply.body).unwrap_or_default();
            let servers = found["Servers"].as_array().cloned().unwrap_or_default();
            servers.iter().filter(|server| server["Voter"] == true).count() == 3
        });
    }

    /// Pauses the Consul that leads the servers, until it is thawed. Returns its node.
    ///
    /// No connection is closed and none is refused, as after a power loss of a machine.
    pub(crate) fn freeze_the_servers_leader(&self) -> usize {
        self.all_vote();
        let node = self.servers_leader();
        self.consuls[node].pause().unwrap();
        node
    }

    pub(crate) fn thaw(&self, node: usize) {
        self.consuls[node].resume().unwrap();
        until("the node is in the cluster again", || self.consuls.iter().all(|c| c.sees(3)));
    }

    /// Returns the state in `processes/<fid>` from the copy of a node's own server.
    pub(crate) fn state_near(&self, node: usize, key: u64) -> String {
        let target = format!("/v1/kv/processes/{}?raw&stale", fid(key));
        let reply = self.consuls[node].request("GET", &target, b"").unwrap();
        state_in(&reply.body)
    }

    /// Kills everything on a node at once.
    pub(crate) fn kill_node(&mut self, node: usize) {
        self.all_vote();
        self.hams.retain(|(key, _)| Self::node_of(*key) != node);
        self.hax[node].kill();
        self.consuls[node].kill();
    }

    /// Starts a node again.
    pub(crate) fn return_node(&mut self, node: usize) {
        self.consuls[node].rejoin().unwrap();
        until("the node is in the cluster again", || self.consuls[node].sees(3));
        for key in [CONFDS[node], IOS[node]] {
            // The check has just run for the first time in this life of the agent.
            let pass = format!("/v1/agent/check/pass/service:{key}");
            until("the agent has its services", || {
                let reply = self.consuls[node].request("PUT", &pass, b"");
                reply.is_ok_and(|reply| reply.status == 200)
            });
        }
        self.restart_hax(node);
    }

    /// Checks that the old daemon received each event once, in order for each process.
    pub(crate) fn the_old_daemon_heard_all(&self) {
        for key in IOS {
            let said: Vec<&str> = self
                .said
                .iter()
                .filter(|(about, _)| *about == key)
                .map(|(_, event)| *event)
                .collect();
            let of_process = || {
                let heard = self.old.heard();
                let about = heard.into_iter().filter(|(_, message)| {
                    message["message_type"] == "PROCESS-STATE-UPDATE"
                        && message["payload"]["fid"].as_str() == Some(&fid(key))
                });
                let state = |(_, message): (u64, Value)| {
                    let state = message["payload"]["state"].as_str().unwrap();
                    state.trim_start_matches("M0_CONF_HA_PROCESS_").to_owned()
                };
                about.map(state).collect::<Vec<_>>()
            };
            let all_in_order = || {
                let heard = of_process();
                let mut rest = heard.iter();
                said.iter().all(|event| rest.any(|heard| heard == event))
            };
            until(&format!("the old daemon heard of {key}: {said:?}"), all_in_order);
        }
        let numbers: Vec<u64> = self.old.heard().iter().map(|(n, _)| *n).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
    }
}

fn state_in(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let state = value["state"].as_str().unwrap_or_default();
    state.trim_start_matches("M0_CONF_HA_PROCESS_").to_owned()
}

fn start_hax(places: &[Place], proxies: &[Proxy], node: usize) -> Hax {
    let (place, name) = (&places[node], format!("ssu{}", node + 1));
    let motr = place.endpoint(22001);
    let flags = [
        "--consul",
        &format!("http://{}", proxies[node].address),
        "--node",
        &name,
        "--fid",
        &fid(5 * u64::try_from(node).unwrap()),
        "--motr-endpoint",
        &motr,
        "--http",
        &place.http().to_string(),
    ];
    Hax::start(&flags.map(str::to_owned))
}
