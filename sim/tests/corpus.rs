//! Regression tests with the inputs that the fuzzers found: each file runs through its target. The target
//! `config` has its own test, in `driver`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hax_sim::fuzz::TARGETS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    entries.map(|entry| entry.expect("a file").path()).collect()
}

fn holds(name: &str) {
    let (_, target) = TARGETS.iter().find(|(other, _)| *other == name).expect("a target");
    let corpus = files(&fuzz().join("corpus").join(name));
    assert!(!corpus.is_empty(), "{name} has no corpus");
    let fails = |path: &&PathBuf| {
        let data = fs::read(path).expect("a file");
        std::panic::catch_unwind(|| target(&data)).is_err()
    };
    let failed: Vec<_> = corpus.iter().filter(fails).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn cloud() {
    holds("cloud");
}

#[test]
fn codec() {
    holds("codec");
}

#[test]
fn hax() {
    holds("hax");
}

#[test]
fn process() {
    holds("process");
}

#[test]
fn links() {
    holds("links");
}

#[test]
fn http() {
    holds("http");
}

#[test]
fn consul() {
    holds("consul");
}

#[test]
fn world() {
    holds("world");
}

#[test]
fn stored() {
    holds("stored");
}

#[test]
fn fifo() {
    holds("fifo");
}

#[test]
fn requests() {
    holds("requests");
}

#[test]
fn route() {
    holds("route");
}

#[test]
fn answer() {
    holds("answer");
}

#[test]
fn kind() {
    holds("kind");
}

#[test]
fn keeper() {
    holds("keeper");
}

#[test]
fn services() {
    holds("services");
}

#[test]
fn every_target_has_a_fuzzer_a_dictionary_and_a_corpus() {
    let names = |folder: &str| -> BTreeSet<String> {
        let name =
            |path: &PathBuf| path.file_stem().and_then(|name| name.to_str()).map(str::to_owned);
        files(&fuzz().join(folder)).iter().filter_map(name).collect()
    };
    let targets: BTreeSet<String> =
        TARGETS.iter().map(|(name, _)| *name).chain(["config"]).map(str::to_owned).collect();
    for folder in ["fuzz_targets", "dict", "corpus"] {
        assert_eq!(names(folder), targets, "{folder}");
    }
}
