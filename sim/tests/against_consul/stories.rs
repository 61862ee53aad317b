//! Random sequences of requests. `HAX_TEST_SEEDS` is the number of sequences, and `HAX_TEST_SEED` the first
//! seed.

use super::pair::{Ask, Pair};
use super::session;

/// The random numbers of a sequence: splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).expect("less than sides")
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }
}

const KEYS: &[&str] = &["p/a", "p/b", "p/x/a", "p/x/b", "p", "q"];
const PREFIXES: &[&str] = &["p/", "p", "p/x/", "p/x", "q", "none", ""];
const STATES: &[&str] = &["passing", "warning", "critical"];

fn random_txn(dice: &mut Dice, sessions: &[String]) -> String {
    let mut ops = Vec::new();
    for _ in 0..=dice.roll(4) {
        let key = dice.pick(KEYS);
        let verb = dice.pick(&[
            "set",
            "set",
            "cas",
            "cas",
            "delete",
            "delete-cas",
            "delete-tree",
            "get",
            "get-tree",
            "lock",
            "unlock",
            "check-index",
            "check-session",
            "check-not-exists",
        ]);
        let key = if verb.ends_with("-tree") { dice.pick(PREFIXES) } else { key };
        let index = match dice.roll(3) {
            0 => "0".to_owned(),
            1 => "5".to_owned(),
            _ if key.is_empty() => "0".to_owned(),
            _ => format!("{{@{key}}}"),
        };
        let session = &sessions[dice.roll(sessions.len())];
        let value = dice.pick(&["dg==", "dw==", ""]);
        ops.push(format!(
            r#"{{"KV":{{"Verb":"{verb}","Key":"{key}","Index":{index},"Session":"{session}","Value":"{value}"}}}}"#
        ));
    }
    format!("[{}]", ops.join(","))
}

fn random_step(pair: &mut Pair, dice: &mut Dice, sessions: &mut Vec<String>) {
    let key = dice.pick(KEYS);
    let holder = sessions[dice.roll(sessions.len())].clone();
    let value = dice.pick(&["1", "2", ""]);
    let (node, id) = (dice.pick(&["x1", "x2"]), dice.pick(&["1", "2", "3"]));
    let (name, status) = (dice.pick(&["A", "B"]), dice.pick(STATES));
    match dice.roll(16) {
        0..=2 => pair.ask(&Ask("PUT", &format!("kv/{key}"), value)),
        3 => pair.ask(&Ask("PUT", &format!("kv/{key}?cas={{@{key}}}"), value)),
        4 => pair.ask(&Ask("PUT", &format!("kv/{key}?acquire={holder}"), value)),
        5 => pair.ask(&Ask("PUT", &format!("kv/{key}?release={holder}"), value)),
        6 => pair.ask(&Ask("DELETE", &format!("kv/{key}"), "")),
        7 => pair.ask(&Ask("DELETE", &format!("kv/{}?recurse", dice.pick(PREFIXES)), "")),
        8..=10 => pair.ask(&Ask("PUT", "txn", &random_txn(dice, sessions))),
        11 => {
            let delay = dice.pick(&["0s", "60s"]);
            let behavior = dice.pick(&["release", "delete"]);
            let body = format!(r#"{{"LockDelay":"{delay}","Behavior":"{behavior}"}}"#);
            sessions.push(session(pair, &body));
            pair.ask(&Ask("GET", "session/list", ""))
        }
        12 if sessions.len() > 1 => {
            let gone = sessions.remove(1);
            pair.ask(&Ask("PUT", &format!("session/destroy/{gone}"), ""))
        }
        13 => {
            let body = format!(
                r#"{{"Node":"{node}","Address":"1.1.1.1",
                "Service":{{"ID":"{id}","Service":"{name}","Port":{}}}}}"#,
                dice.roll(2)
            );
            pair.ask(&Ask("PUT", "catalog/register", &body))
        }
        14 => {
            let service = dice.pick(&["", "1", "2"]);
            let body = format!(
                r#"{{"Node":"{node}","Address":"1.1.1.1","Check":{{
                "CheckID":"c{service}","Name":"c","ServiceID":"{service}","Status":"{status}"}}}}"#
            );
            pair.ask(&Ask("PUT", "catalog/register", &body))
        }
        15 => {
            let more = match dice.roll(6) {
                0 => String::new(),
                1..=3 => format!(r#","ServiceID":"{id}""#),
                _ => format!(r#","CheckID":"c{id}""#),
            };
            pair.ask(&Ask("PUT", "catalog/deregister", &format!(r#"{{"Node":"{node}"{more}}}"#)))
        }
        _ => pair.ask(&Ask("GET", &format!("kv/{key}?raw"), "")),
    };
}

fn random_story(seed: u64) {
    let mut pair = Pair::start();
    let mut dice = Dice(seed);
    let mut sessions = vec!["adf4238a-882b-9ddc-4a9d-5b6758e4159e".to_owned()];
    for _ in 0..250 {
        random_step(&mut pair, &mut dice, &mut sessions);
        pair.compare_reads();
    }
}

#[test]
fn random_stories() {
    if !hax_sim::real::available() {
        return;
    }
    let seeds = std::env::var("HAX_TEST_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    let first = std::env::var("HAX_TEST_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds {
        println!("seed {seed}");
        random_story(seed);
    }
}
