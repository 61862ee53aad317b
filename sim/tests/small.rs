//! A complete machine and its test in the World: one of three machines holds a lease, and `GET /leader` says
//! whether it is this one.
//!
//! At any time at most one machine says so, whatever the faults are, and finally one does.

use std::time::Duration;

use hax_core::base::id::CallId;
use hax_core::base::time::{Next, Now};
use hax_core::ha::fact::Fact;
use hax_core::http::answer::Answer;
use hax_core::machine::{Cx, ExitReason, Input, Kept, Kinds, Limits, Machine, Output, Status};
use hax_core::store::lease::{self, Lease};
use hax_sim::consul::Consul;
use hax_sim::engine::{Built, Cast, Odds, RunOptions, Search, World, choice::Choice};

/// The continuations and timers of the machine: those of the lease.
struct OnlyLease;

impl Kinds for OnlyLease {
    type Continuation = lease::Call;
    type Timer = lease::Timer;
    type Output = Output;
    type Shared = ();
}

struct Candidate {
    kept: Kept<OnlyLease>,
    lease: Lease,
    stopped: bool,
}

impl Candidate {
    fn new(name: &str, seed: u64) -> Self {
        let limits = Limits { call: Duration::from_secs(2), answer_bytes: 64 * 1024 };
        let lease = Lease::new(lease::Config {
            key: "leader".into(),
            holder: name.into(),
            check: "leader-check".into(),
            ttl: Duration::from_secs(1),
            belief: Duration::from_secs(3),
            watch: Duration::from_secs(10),
        });
        Self { kept: Kept::new(CallId::first(0), seed, limits, ()), lease, stopped: false }
    }

    fn leads(&self, now: Now) -> bool {
        self.lease.believes(now.mono).is_some()
    }
}

impl Machine for Candidate {
    type Fact = Fact;
    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) -> Next {
        if self.stopped {
            return Next::Exit;
        }
        let leads = self.leads(now);
        let Self { kept, lease, stopped } = self;
        let mut cx: Cx<'_, OnlyLease> = kept.cx(now, out);
        lease.stand(&mut cx);
        match input {
            Input::Http(request) if &*request.target == "/leader" => {
                cx.http(request.id, Answer::new(if leads { 200 } else { 409 }, ""));
            }
            Input::Http(request) => cx.http(request.id, Answer::not_found(&request.target)),
            Input::Consul(reply) => {
                if let Some(call) = cx.take(reply.id) {
                    let outcome = cx.outcome(call, &reply);
                    lease.on_answer(&mut cx, call, outcome.answer());
                }
            }
            Input::Stop => {
                lease.resign(&mut cx);
                *stopped = true;
                return Next::Exit;
            }
            _ => {}
        }
        while let Some(timer) = cx.next_due() {
            lease.on_timer(&mut cx, timer);
        }
        kept.next()
    }

    fn blocking_queries(&self) -> usize {
        1
    }
    fn status(&self) -> Status {
        Status { text: "stands for election", stopping: false }
    }
    fn exit(&self) -> ExitReason {
        ExitReason::Stopped
    }
}

/// The cast: three candidates. The faults are those that any world may have.
struct Election;
const NAMES: [&str; 3] = ["node0", "node1", "node2"];

impl Cast for Election {
    const NAME: &'static str = "election";
    type Cache = ();
    type Swarm = Odds;
    type Machine = Candidate;
    type Event = ();
    type Mutant = ();

    fn draw(choice: &mut dyn Choice) -> Odds {
        Odds::draw(choice)
    }

    fn odds(odds: &Odds) -> Odds {
        odds.clone()
    }

    fn build((): &mut (), _: &Odds) -> Built<Self> {
        Built { consul: Consul::cluster(&NAMES), nodes: NAMES.len(), cast: Self }
    }

    fn start(world: &mut World<'_, Self>, node: usize) -> Candidate {
        Candidate::new(NAMES[node], world.now().wall.0)
    }

    fn act(world: &mut World<'_, Self>) -> u64 {
        world.send_request(0, "GET", "/leader", "");
        world.default_act()
    }

    fn on_step(world: &mut World<'_, Self>, node: usize, _: &[Output], candidate: &Candidate) {
        let alone = !candidate.leads(world.now()) || !one_leads(world);
        world.require(alone, "one leads at most", format!("{node} is not the only one"));
    }

    fn busy_reason(world: &World<'_, Self>) -> Option<String> {
        (!one_leads(world)).then(|| "nobody leads".into())
    }
}

fn one_leads(world: &World<'_, Election>) -> bool {
    (0..NAMES.len()).any(|i| world.machine(i).is_some_and(|one| one.leads(world.now())))
}

#[test]
fn one_leads_at_most_whatever_befalls_them_and_in_the_end_one_does() {
    for seed in 0..100 {
        let outcome = Search::<Election>::default().seed(seed, RunOptions::default());
        assert_eq!(outcome.violation, None, "seed {seed}");
    }
}
