//! Rounds of faults on a pair of routers with a group: three Consul servers, an agent for each router, a route
//! in Consul and a route in a real kernel. A log of all writers proves that never two routers write at once.
//!
//! `HAX_ROUTE_ROUNDS` is the number of rounds. Each kind of fault occurs in ten rounds.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "the takeover times are of interest")]

#[path = "../common/hax.rs"]
mod hax;
#[path = "../cluster/proxy.rs"]
#[expect(dead_code, reason = "each test program uses its part")]
mod proxy;
#[path = "../route/router.rs"]
#[expect(dead_code, reason = "each test program uses its part")]
mod router;
mod stage;
mod writers;

use std::time::Duration;

use hax_driver::host::clock::Clock;
use rustix::process::Signal;

use stage::{Stage, until};

/// The number of rounds of a quick run.
const ROUNDS: usize = 10;

/// The maximum time of a takeover on a busy machine. The check's TTL and the lock's delay are 1 s each.
const TAKEOVER: Duration = Duration::from_secs(12);

/// A fault. Its victim is the holder, except where the servers' leader is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The router's server is killed.
    Kill,
    /// The router's server stands still, and goes on after the takeover.
    Freeze,
    /// No byte passes between the router and its agent.
    Cut,
    /// The router's agent stands still, and goes on after the takeover.
    AgentFrozen,
    /// The router's agent is killed.
    AgentKilled,
    /// The leader of the servers is killed.
    LeaderKilled,
    /// The leader of the servers stands still.
    LeaderFrozen,
    /// The server of the router that does not hold the lease is killed.
    OtherKilled,
    /// The router's server is stopped.
    Stop,
    /// A client tells the other router to take over, which is refused, and then the holder is killed.
    ToldAndKilled,
}

const FAULTS: [Fault; 10] = [
    Fault::Kill,
    Fault::Freeze,
    Fault::Cut,
    Fault::LeaderKilled,
    Fault::AgentFrozen,
    Fault::Stop,
    Fault::OtherKilled,
    Fault::AgentKilled,
    Fault::LeaderFrozen,
    Fault::ToldAndKilled,
];

impl Fault {
    /// Returns whether the lease stays where it is.
    fn moves_nothing(self) -> bool {
        matches!(self, Self::LeaderKilled | Self::LeaderFrozen | Self::OtherKilled)
    }
}

#[test]
fn r01_never_two_routers_write_whatever_is_killed_frozen_or_cut() {
    let rounds = std::env::var("HAX_ROUTE_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS, |text| text.parse().unwrap());
    let Some(mut stage) = Stage::new() else { return };
    let clock = Clock::new();
    let mut took = Vec::new();
    for round in 0..rounds {
        let fault = FAULTS[round % FAULTS.len()];
        let holder = stage.holder();
        let began = clock.now().mono;
        strike(&mut stage, fault, holder);
        if fault.moves_nothing() {
            stage.waits_for_servers();
            println!("round {round}: {fault:?}: router {} acts", stage.holder());
        } else {
            until("the other router has taken over", || stage.leads_to(1 - holder));
            let time = clock.now().mono.since(began);
            println!("round {round}: {fault:?}: router {} acts after {time:?}", 1 - holder);
            assert!(time <= TAKEOVER, "{time:?}");
            took.push(time);
        }
        heal(&mut stage, fault, holder);
        stage.check();
    }
    took.sort_unstable();
    if let (Some(median), Some(max)) = (took.get(took.len() / 2), took.last()) {
        println!("{} takeovers: median {median:?}, max {max:?}", took.len());
    }
    println!("{}", stage.summary());
}

fn strike(stage: &mut Stage, fault: Fault, holder: usize) {
    match fault {
        Fault::Kill => stage.end(holder, Signal::KILL),
        Fault::Freeze => stage.signal(holder, Signal::STOP),
        Fault::Cut => stage.proxies[holder].cut(),
        Fault::AgentFrozen => stage.agents[holder].pause().unwrap(),
        Fault::AgentKilled => stage.agents[holder].kill(),
        Fault::LeaderKilled => stage.kill_leader(),
        Fault::LeaderFrozen => stage.freeze_leader(),
        Fault::OtherKilled => stage.end(1 - holder, Signal::KILL),
        Fault::Stop => stage.end(holder, Signal::TERM),
        Fault::ToldAndKilled => {
            let (code, text) = stage.routers[1 - holder].run("node_event -i 1 -e peerFail");
            let name = format!("router-{holder} holds ha/route/edge");
            assert!(code == 7 && text.contains(&name), "{code} {text}");
            stage.end(holder, Signal::KILL);
        }
    }
}

fn heal(stage: &mut Stage, fault: Fault, holder: usize) {
    match fault {
        Fault::Kill | Fault::Stop | Fault::ToldAndKilled => stage.serve(holder),
        Fault::Freeze => stage.signal(holder, Signal::CONT),
        Fault::Cut => stage.proxies[holder].heal(),
        Fault::AgentFrozen => stage.agents[holder].resume().unwrap(),
        Fault::AgentKilled => stage.agents[holder].rejoin().unwrap(),
        Fault::LeaderKilled | Fault::LeaderFrozen => stage.heal_servers(),
        Fault::OtherKilled => stage.serve(1 - holder),
    }
    stage.waits_for_routers();
}
