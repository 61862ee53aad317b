//! The bridge behind the library in a small world: the strict fake at the ABI, the Consul double, and
//! processes whose actions come from a list of choices. Time is virtual. It advances when there is no work
//! left, so the speed of the glue's threads does not matter.

mod act;
mod consul;
mod peer;
mod scenes;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use hax_core::base::fid::Fid;
use hax_core::base::time::{Instant, Next, Now, WallClock};
use hax_core::bridge::config::Config as BridgeConfig;
use hax_core::discover::Services;
use hax_core::ha::fact::Fact;
use hax_core::machine::{Input, Machine as _, Output};
use hax_driver::libmotr::{Config, Libmotr, LibraryNode, StopOutcome};
use hax_sim::engine::choice::Seed;
use motr_sys::fake::FakeLibrary;

use consul::ConsulHost;
use peer::Peer;

const OWN: Fid = Fid::process(0);

struct World {
    library: FakeLibrary,
    motr: Arc<Libmotr>,
    machine: LibraryNode,
    next: Next,
    now: Instant,
    consul: ConsulHost,
    peers: Vec<Peer>,
    /// The number of lives so far.
    lives: u64,
    facts: Vec<Fact>,
    /// The kinds of events that have occurred.
    seen: BTreeSet<&'static str>,
    /// The history, for the analysis of a failure.
    history: Vec<String>,
}

impl World {
    /// Creates three nodes as hare configures them, and a started hax on the first one.
    fn new(seed: u64) -> Self {
        let library = FakeLibrary::new();
        let services = Services { ha: Fid::service(0), rm: Fid::service(1) };
        let config = Config::of(OWN, services, "inet:tcp:127.0.0.1@22001");
        let motr = Arc::new(Libmotr::start(library.ha(), library.spiel(), config, || {}));
        let mut bridge = BridgeConfig::new(OWN, "ssu1", seed);
        bridge.elect = false;
        let machine = LibraryNode::new(bridge, Arc::clone(&motr));
        let mut world = Self {
            library,
            motr,
            machine,
            next: Next::Wait,
            now: Instant::from_micros(1_000_000),
            consul: ConsulHost::new(),
            peers: (1..=4).map(|key| Peer::new(Fid::process(key))).collect(),
            lives: 100,
            facts: Vec::new(),
            seen: BTreeSet::new(),
            history: Vec::new(),
        };
        world.feed(Input::Tick);
        world.run(Duration::from_millis(50));
        world.library.own_link();
        world
    }

    fn at(&self) -> Now {
        let wall = WallClock(1_795_243_244_000_000_000 + self.now.as_micros() * 1_000);
        Now { mono: self.now, wall }
    }

    /// Feeds an input to the machine, and the outputs to the ports.
    fn feed(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            if self.next == Next::Exit {
                return;
            }
            let (now, mut out) = (self.at(), Vec::new());
            self.next = self.machine.handle(now, input, &mut out);
            for output in out {
                match output {
                    Output::Consul(command) => {
                        inputs
                            .extend(self.consul.take(now, command).into_iter().map(Input::Consul));
                    }
                    Output::Fact(fact) => self.facts.push(fact),
                    Output::Http(_)
                    | Output::Net(_)
                    | Output::Spiel(_)
                    | Output::HttpStream(_)
                    | Output::Exec(_)
                    | Output::File(_)
                    | Output::Fifo(_)
                    | Output::State(_)
                    | Output::Keeper(_) => {
                        unreachable!("nobody asked")
                    }
                }
            }
        }
    }

    /// Lets the threads of the glue, the library and the bridge work until there is nothing left to do.
    fn settle_down(&mut self) {
        let mut before = None;
        loop {
            let calls = self.library.calls();
            let barrier = self.motr.barrier();
            let done = loop {
                // The worker may wait for room in the queue of events, so events are handled meanwhile.
                match barrier.try_recv() {
                    Ok(done) => break done,
                    Err(_) => self.take_events(),
                }
                std::thread::yield_now();
            };
            if !self.motr.events().is_empty() {
                self.take_events();
                before = None;
                continue;
            }
            let state = calls.map(|calls| (calls, done));
            if state.is_some() && before == state {
                return;
            }
            before = state;
        }
    }

    fn take_events(&mut self) {
        if !self.motr.events().is_empty() {
            self.feed(Input::Tick);
        }
    }

    /// Advances the time.
    fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        loop {
            self.settle_down();
            let due = match self.next {
                Next::WaitUntil { at, .. } => at,
                Next::Wait | Next::Exit => Instant::MAX,
            };
            let at = due.min(self.consul.due()).max(self.now);
            if at > end {
                break;
            }
            self.now = at;
            if due <= at {
                self.feed(Input::Tick);
            }
            if self.consul.due() <= at {
                let replies = self.consul.tick(self.at());
                replies.into_iter().for_each(|reply| self.feed(Input::Consul(reply)));
            }
        }
        self.now = end;
    }

    /// Checks that all work completes by itself, and then the stop.
    fn end(mut self) -> BTreeSet<&'static str> {
        self.heal();
        self.feed(Input::Stop);
        for _ in 0..300 {
            if self.next == Next::Exit {
                break;
            }
            self.run(Duration::from_millis(100));
        }
        assert_eq!(self.next, Next::Exit, "it does not stop");
        assert_eq!(block_on(self.motr.ended()), StopOutcome::Stopped);
        self.library.finished();
        std::mem::take(&mut self.seen)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let last = self.history.len().saturating_sub(60);
            println!("{}", self.history[last..].join("\n"));
        }
    }
}

#[test]
fn whatever_processes_do_the_library_has_no_reason_to_abort() {
    let mut seen = BTreeSet::new();
    for seed in 0..40 {
        let mut world = World::new(seed);
        let mut choice = Seed::new(seed, 1000);
        world.history.push(format!("seed {seed}"));
        for _ in 0..120 {
            world.act(&mut choice);
        }
        seen.append(&mut world.end());
    }
    let all =
        ["acknowledgement", "answer", "entrypoint", "known link", "lost link", "news", "refusal"];
    assert_eq!(seen, all.into());
}
