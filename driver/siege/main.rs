//! A daemon under siege: strangers take all they can of it, all at once, and its own processes are served
//! as if nobody were there. For every runtime's program, as the conformance checks are.
//!
//! The strangers have addresses that are not the node's own. So the tests run in a network namespace of
//! their own where that is allowed (as root, or where users may make namespaces); elsewhere the strangers
//! have other loopback addresses, which is harder on hax: it takes them for processes of its node.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "real programs take real time")]

mod attack;
#[path = "../../runtime-tokio/tests/daemon/mod.rs"]
mod daemon;
#[path = "../../runtime-tokio/tests/common/hax.rs"]
mod hax;
mod held;
mod place;

use std::thread;
use std::time::{Duration, Instant};

use attack::Siege;
use held::Held;

/// In what time whoever belongs here is served, whoever else is there.
const SERVED_WITHIN: Duration = Duration::from_secs(1);
/// How often each thing is tried.
const TRIES: u64 = 6;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// What hax may take at its most, in KiB.
fn memory_max() -> u64 {
    if hax::HAX.ends_with("hax-smol") { 64 << 10 } else { 160 << 10 }
}

/// The siege's limit, and on a machine that is slow without a siege five times what it takes there.
fn limit(without: Duration) -> Duration {
    SERVED_WITHIN.max(5 * without)
}

/// A process boots: entrypoint, link, and its word that it has started is taken.
fn boot(held: &mut Held, key: u64) -> Duration {
    let began = Instant::now();
    let mut ham = held.place.ham(key);
    ham.entrypoint();
    ham.say("process started");
    ham.delivered();
    held.hams.push(ham);
    began.elapsed()
}

fn say(what: &str, took: &[Duration]) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{what}: {took:.3?}");
}

/// Half frames and silent connections at Motr's port.
#[test]
fn f50_processes_boot_while_strangers_besiege_motr_s_port() {
    place::apart("f50_processes_boot_while_strangers_besiege_motr_s_port", || {
        let mut held = Held::new();
        let without = boot(&mut held, 1);
        let siege = Siege::begin(&held.place);
        siege.half_frames(600);
        siege.silence(500);
        siege.is_laid();
        let tries = (2..2 + TRIES).map(|key| {
            thread::sleep(PAUSE);
            boot(&mut held, key)
        });
        let took: Vec<_> = tries.collect();
        say("booted", &[&[without], &took[..]].concat());
        held.say_memory();
        assert!(took.iter().all(|took| *took <= limit(without)), "{without:?}, {took:?}");
        assert!(held.memory() <= memory_max(), "{} KiB", held.memory());
        // Who booted first has its link still.
        held.hams[0].say("process stopping");
        held.hams[0].delivered();
    });
}
