//! A daemon under siege: attackers take as many resources as they can, all at once, and the daemon's own
//! processes must be served as usual. Like the conformance checks, it is a test of each runtime's program.
//!
//! The attackers have addresses that do not belong to the node. So the tests run in a network namespace of
//! their own if that is allowed (as root, or if users may create namespaces). Otherwise the attackers have
//! other loopback addresses. That is harder for hax, which takes them for processes of its node.
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

/// The time within which legitimate clients must be served during attacks.
const SERVED_WITHIN: Duration = Duration::from_secs(1);
/// The number of repetitions of each request.
const TRIES: u64 = 6;
/// The maximum number of new log lines; the siege lasts for less than a minute.
const LINES_MAX: usize = 100;
/// The pause between two repetitions.
const PAUSE: Duration = Duration::from_millis(500);

/// Returns the maximum peak memory of hax, in KiB.
fn memory_max() -> u64 {
    if hax::HAX.ends_with("hax-smol") { 64 << 10 } else { 160 << 10 }
}

/// Returns the time limit in the siege. On a slow machine it is five times the time without a siege.
fn limit(without: Duration) -> Duration {
    SERVED_WITHIN.max(5 * without)
}

/// Boots a process: entrypoint, link, and an acknowledged start event.
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

/// The attacks are incomplete frames and silent connections at Motr's port.
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
        // The process that booted first still has its link.
        held.hams[0].say("process stopping");
        held.hams[0].delivered();
    });
}

/// Returns the response time of a request from a client on the node.
fn ask(held: &Held, method: &str, target: &str, body: &[u8]) -> Duration {
    let began = Instant::now();
    let reply = held.place.ask(method, target, body);
    assert_eq!(reply.status, 200, "{method} {target}: {}", reply.text());
    began.elapsed()
}

/// All attacks run at once: Motr's port, HTTP connections, endless bodies, and forged posts.
#[test]
fn who_belongs_here_is_served_while_strangers_do_all_they_can() {
    place::apart("who_belongs_here_is_served_while_strangers_do_all_they_can", || {
        let mut held = Held::new();
        let without = boot(&mut held, 1).max(ask(&held, "GET", "/healthz", b""));
        let siege = Siege::begin(&held.place);
        siege.half_frames(600);
        siege.silence(500);
        siege.idle_clients(600);
        siege.unfinished_posts(64);
        siege.tiny_chunks(200);
        siege.forged_posts();
        siege.is_laid();
        let (began, lines) = (Instant::now(), held.lines());
        let (mut boots, mut asks, mut posts) = (Vec::new(), Vec::new(), Vec::new());
        for key in 2..2 + TRIES {
            boots.push(boot(&mut held, key));
            for _ in 0..8 {
                asks.push(ask(&held, "GET", "/healthz", b""));
                posts.push(ask(&held, "POST", "/watcher/processes", b"null"));
                thread::sleep(PAUSE / 8);
            }
        }
        let (lines, time) = (held.lines() - lines, began.elapsed());
        say("booted", &boots);
        say("asked", &[asks.iter().copied().max().unwrap_or_default()]);
        say("posted", &[posts.iter().copied().max().unwrap_or_default()]);
        held.say_memory();
        let most = limit(without);
        assert!(boots.iter().all(|took| *took <= most), "{without:?}, {boots:?}");
        assert!(asks.iter().all(|took| *took <= most), "{without:?}, {asks:?}");
        assert!(posts.iter().all(|took| *took <= most), "{without:?}, {posts:?}");
        assert!(held.memory() <= memory_max(), "{} KiB", held.memory());
        assert!(lines <= LINES_MAX, "{lines} lines in {time:?}");
    });
}
