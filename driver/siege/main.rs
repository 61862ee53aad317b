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
/// Lines that the log may grow by; the siege lasts for less than a minute.
const LINES_MAX: usize = 100;
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

/// How long a client on the node waits for what it asks.
fn ask(held: &Held, method: &str, target: &str, body: &[u8]) -> Duration {
    let began = Instant::now();
    let reply = held.place.ask(method, target, body);
    assert_eq!(reply.status, 200, "{method} {target}: {}", reply.text());
    began.elapsed()
}

/// All attacks at once: Motr's port, HTTP connections, bodies that do not end, and forged posts.
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
