//! The bridge: what is posted to it, and what Consul answers it.

use bytes::Bytes;
use hax_core::base::config::Config;
use hax_core::base::fid::Fid;
use hax_core::base::id::{CallId, HttpId};
use hax_core::base::time::Next;
use hax_core::bridge::Bridge;
use hax_core::bridge::io::{Input, Output};
use hax_core::consul::port::{Answer, Command, Method, Reply, Unanswered};
use hax_core::http::port::Request;

use super::{Clock, Script};
use crate::cluster::{Agents, Cluster, Shape};
use crate::consul::{self, Consul};

/// The most inputs of one run.
const INPUTS: usize = 300;

struct World {
    bridge: Bridge,
    consul: Consul,
    clock: Clock,
    out: Vec<Output>,
    calls: Vec<(CallId, Method, String, Bytes)>,
    responses: usize,
    exited: bool,
}

impl World {
    fn new() -> Self {
        let mut consul = Consul::new("ssu1");
        let cluster = Cluster::generate(&Shape::like_hare(1));
        let clock = Clock::default();
        cluster.load_double(clock.now(), &mut consul, "ssu1", Agents::One);
        let bridge = Bridge::new(Config::new(Fid::process(0), "ssu1", 3));
        let mut world = Self {
            bridge,
            consul,
            clock,
            out: Vec::new(),
            calls: Vec::new(),
            responses: 0,
            exited: false,
        };
        world.give(Input::Tick);
        world
    }

    fn give(&mut self, input: Input) {
        if self.exited {
            return;
        }
        let next = self.bridge.handle(self.clock.now(), input, &mut self.out);
        self.exited = next == Next::Exit;
        for output in self.out.drain(..) {
            match output {
                Output::Consul(Command::Call(call)) => {
                    self.calls.push((call.id, call.method, call.target, call.body));
                }
                Output::Consul(Command::Cancel(id)) => self.calls.retain(|call| call.0 != id),
                Output::Http(_) => self.responses += 1,
                Output::Motr(_) | Output::Fact(_) => {}
            }
        }
        assert!(self.calls.len() < 1_000, "calls are bounded");
    }

    /// Consul answers all that does not block, for a while.
    fn settle(&mut self) {
        for _ in 0..100 {
            self.clock.pass(1_000);
            self.give(Input::Tick);
            let blocks = |call: &(CallId, Method, String, Bytes)| call.2.contains("&wait=");
            let Some(at) = self.calls.iter().position(|call| !blocks(call)) else { return };
            let (id, method, target, body) = self.calls.remove(at);
            let method = match method {
                Method::Get => "GET",
                Method::Put => "PUT",
                Method::Delete => "DELETE",
            };
            let request = consul::Request::new(id.0, method, &target, body);
            let mut out = Vec::new();
            let _ = self.consul.handle(self.clock.now(), request, &mut out);
            for output in out {
                let consul::Output::Response(response) = output else { continue };
                let index = response.index().unwrap_or(0);
                let answer = Answer { status: response.status, index, body: response.body };
                let reply = Reply { id: CallId(response.id), result: Ok(answer) };
                self.give(Input::Consul(reply));
            }
        }
    }
}

/// Somebody posts whatever he likes: each request is answered once.
pub fn http(data: &[u8]) {
    const METHODS: [&str; 4] = ["POST", "GET", "PUT", "HEAD"];
    const TARGETS: [&str; 10] = [
        "/",
        "/watcher/bq",
        "/watcher/processes",
        "/v1/events/subscribe",
        "/v1/events/unsubscribe",
        "/status",
        "/v1/cluster/status",
        "/v1/cluster/fetch-fids",
        "/readyz",
        "/api/v1/sns/repair-start",
    ];
    let mut world = World::new();
    world.settle();
    let mut script = Script(data);
    let mut asked = 0;
    for n in 1..20 {
        if script.is_over() {
            break;
        }
        let kind = usize::from(script.byte());
        let target = TARGETS[kind % TARGETS.len()];
        let method = METHODS[(kind / TARGETS.len()) % METHODS.len()];
        let len = script.u16();
        let body = Bytes::copy_from_slice(script.take(len));
        asked += 1;
        let (method, target) = (method.into(), target.into());
        let request = Request { id: HttpId(n), method, target, body };
        world.give(Input::Http(Box::new(request)));
        world.settle();
    }
    world.give(Input::Stop);
    world.settle();
    assert_eq!(world.responses, asked, "each request is answered once");
}

/// Consul answers whatever it likes, sometimes the truth.
pub fn consul(data: &[u8]) {
    let mut world = World::new();
    let mut script = Script(data);
    for _ in 0..INPUTS {
        if script.is_over() || world.exited {
            break;
        }
        world.clock.pass(1_000 << (script.byte() % 16));
        world.give(Input::Tick);
        if world.calls.is_empty() {
            continue;
        }
        let which = usize::from(script.byte()) % world.calls.len();
        let id = world.calls[which].0;
        let result = match script.byte() {
            0..=49 => {
                world.settle();
                continue;
            }
            50..=69 => Err(Unanswered::TimedOut),
            70..=79 => Err(Unanswered::Refused),
            kind => {
                let status = [200, 200, 200, 404, 409, 500][usize::from(kind) % 6];
                let index = script.u64() >> (script.byte() % 64);
                let n = script.u16();
                let body = Bytes::copy_from_slice(script.take(n));
                Ok(Answer { status, index, body })
            }
        };
        world.calls.remove(which);
        world.give(Input::Consul(Reply { id, result }));
    }
}
