//! `hax run --journal` with a real Consul and a Motr process: the journal of a life replays that life,
//! whether it was stopped or killed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod daemon;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use common::certs::directory;
use common::hax;
use daemon::{Hax, LIMIT, Place, until};
use hax_core::base::fact::Level;
use hax_core::ha::fact::FactKind;
use hax_core::journal::JournalError;
use hax_sim::cluster::{Cluster, Endpoints, Shape};
use hax_sim::engine::replay::Replayed;
use hax_sim::engine::search::Search;
use hax_sim::real::client;
use hax_sim::real::{Options, RealConsul, available};
use hax_sim::worlds::bridge::Bridge;

const MASTER: &str = "6e4c2f0a-0000-4000-8000-00000000000a";
const BEARER: &str = "nobody-may-read-this";

/// A Consul that requires a token, and a hax that requires one too.
struct Fixture {
    _consul: RealConsul,
    place: Place,
    journal: PathBuf,
    flags: Vec<String>,
}

impl Fixture {
    fn new() -> Option<Self> {
        if !available() {
            return None;
        }
        let options = Options { master_token: Some(MASTER.into()), ..Options::new("ssu1") };
        let consul = RealConsul::start(options).unwrap();
        let shape = Shape::like_hare(3).with_endpoints(Endpoints::Sock);
        consul.load_cluster(&Cluster::generate(&shape)).unwrap();
        let (place, dir) = (Place::new(), directory());
        let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        std::fs::write(path("consul.token"), MASTER).unwrap();
        std::fs::write(path("http.token"), BEARER).unwrap();
        let mut flags = place.flags(consul.http_addr);
        flags.retain(|flag| flag != "--no-elect");
        for (flag, name) in [
            ("--consul-token-file", "consul.token"),
            ("--http-token-file", "http.token"),
            ("--journal", "journal"),
        ] {
            flags.extend([flag.to_owned(), path(name)]);
        }
        Some(Self { _consul: consul, place, journal: path("journal").into(), flags })
    }

    /// Runs a life of hax with all kinds of inputs, up to a process's second event.
    fn live(&self) -> (Hax, daemon::Ham) {
        let hax = Hax::start(&self.flags);
        self.place.ready();
        let mut ham = self.place.ham(2);
        ham.entrypoint();
        ham.say("process starting");
        ham.say("process started");
        assert_eq!((ham.delivered(), ham.delivered()), (0, 1));
        let bearer = format!("Authorization: Bearer {BEARER}\r\n");
        for (method, target, status) in [("GET", "/status", 200), ("POST", "/nowhere", 404)] {
            let to = self.place.http();
            let reply = client::request_with(to, LIMIT, &bearer, method, target, b"[]");
            assert_eq!(reply.unwrap().status, status);
        }
        (hax, ham)
    }
}

/// Returns the facts that a life has logged since its journal began.
fn logged(hax: &Hax) -> Vec<String> {
    let log = hax.log();
    let begins = |line: &serde_json::Value| {
        line["message"].as_str().is_some_and(|text| text.contains("written to the journal"))
    };
    let begun = log.iter().position(begins).expect("the journal is said to begin");
    let facts = log[begun..].iter().filter_map(|line| {
        Some(format!("[{}] {}", line["fact"].as_str()?, line["message"].as_str()?))
    });
    facts.collect()
}

fn replayed(journal: &Path) -> Replayed {
    let replayed = Search::<Bridge>::replay(&std::fs::read(journal).unwrap(), usize::MAX).unwrap();
    assert_eq!(replayed.violation, None);
    replayed
}

/// Returns the facts of a replay that are logged.
fn facts(replayed: &Replayed) -> Vec<String> {
    let facts = replayed.lines.iter().filter_map(|line| line.split_once("-> ["));
    let facts = facts.map(|(_, fact)| format!("[{fact}"));
    let quiet = |fact: &String| {
        let kind = fact[1..].split(']').next().unwrap();
        let kind = FactKind::ALL.iter().find(|known| known.name() == kind);
        kind.unwrap().level() == Level::Trace
    };
    facts.filter(|fact| !quiet(fact)).collect()
}

fn contains(facts: &[String], kind: &str) -> bool {
    facts.iter().any(|fact| fact.starts_with(&format!("[{kind}]")))
}

#[test]
fn a_life_that_was_stopped_replays_to_its_end() {
    let Some(fixture) = Fixture::new() else { return };
    let (mut hax, ham) = fixture.live();
    assert_eq!(hax.stop(), Some(0));
    drop(ham);
    let whole = replayed(&fixture.journal);
    assert_eq!(whole.error, None);
    let facts = facts(&whole);
    for kind in ["LinkUp", "ProcessCommitted", "HttpRefused", "LeaderStands", "Stopped"] {
        assert!(contains(&facts, kind), "{kind}: {facts:#?}");
    }
    assert_eq!(facts, logged(&hax));

    let bytes = std::fs::read(&fixture.journal).unwrap();
    for secret in [MASTER, BEARER] {
        assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret}");
    }
    let mode = std::fs::metadata(&fixture.journal).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only its owner may read it");
}

#[test]
fn a_life_that_was_killed_replays_as_far_as_it_was_written() {
    let Some(fixture) = Fixture::new() else { return };
    let (mut hax, ham) = fixture.live();
    until("the last request is written", || {
        contains(&facts(&replayed(&fixture.journal)), "HttpRefused")
    });
    hax.kill();
    drop(ham);
    let cut = replayed(&fixture.journal);
    assert!(matches!(cut.error, None | Some(JournalError::CutOff)), "{:?}", cut.error);
    let (facts, logged) = (facts(&cut), logged(&hax));
    assert!(contains(&facts, "ProcessCommitted") && contains(&facts, "HttpRefused"), "{facts:#?}");
    // Either side may lack the last facts.
    let both = facts.len().min(logged.len());
    assert_eq!(facts[..both], logged[..both]);

    // The next life does not change the journal.
    let before = std::fs::read(&fixture.journal).unwrap();
    let (mut hax, ham) = fixture.live();
    assert_eq!(hax.stop(), Some(0));
    drop(ham);
    assert_eq!(std::fs::read(&fixture.journal).unwrap(), before);
    let second = replayed(&fixture.journal.with_extension("1"));
    assert!(contains(&self::facts(&second), "Stopped"));
}

#[test]
fn a_journal_that_cannot_be_had_keeps_nobody_from_his_work() {
    let Some(mut fixture) = Fixture::new() else { return };
    *fixture.flags.last_mut().unwrap() = "/nonexistent/journal".into();
    let hax = Hax::start(&fixture.flags);
    fixture.place.ready();
    hax.says(0, "JournalEnded", "cannot create /nonexistent/journal: No such file");
}
