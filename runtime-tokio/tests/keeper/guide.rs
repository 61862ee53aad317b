//! Tests of the agreement between the guide and the program: facts, exit codes, flags.

use std::process::Command;

use hax_core::base::fact::Level;
use hax_core::keeper::fact::FactKind;

use crate::common::program::command;
use crate::world::World;

const GUIDE: &str = include_str!("../../../docs/SERVICES.md");

/// Returns the cells of each table row under a heading of the guide.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, rest) = GUIDE.split_once(&format!("\n### {heading}\n")).unwrap();
    let section = rest.split("\n### ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.map(|row| row.split(" | ").map(str::trim).collect()).collect()
}

fn help(args: &[&str]) -> String {
    let output = command(args).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_fact_of_warn_and_above_has_a_row() {
    let rows = rows("Log lines that want somebody");
    for kind in FactKind::ALL.iter().filter(|kind| kind.level() >= Level::Warn) {
        let level = format!("{:?}", kind.level()).to_lowercase();
        let is_it = |row: &&Vec<&str>| row[0] == format!("`{}`", kind.name()) && row[1] == level;
        assert!(rows.iter().find(is_it).is_some_and(|row| row.len() == 4), "{}", kind.name());
    }
}

#[test]
fn the_guide_has_every_flag_and_exit_code() {
    let help = help(&["keeper", "--help"]);
    let flags = help.lines().filter_map(|line| line.trim().strip_prefix("--"));
    let flags: Vec<_> = flags.filter_map(|line| line.split([' ', '=']).next()).collect();
    assert!(flags.len() >= 10, "{help}");
    for flag in &flags {
        assert!(GUIDE.contains(&format!("`--{flag}`")), "--{flag}");
    }
    for row in rows("Exit codes").iter().filter(|row| row[0] != "code") {
        assert!(help.contains(&format!("\n  {}  ", row[0])), "{row:?}");
    }
    assert!(!help.contains("boot-id"), "what is for tests is not shown");
}

#[test]
fn a_keeper_that_runs_can_be_asked_from_the_command_line() {
    let world = World::new();
    world.begin(crate::world::sh("a", "exec sleep 1000"));
    let folder = world.folder();
    let folder = folder.to_str().unwrap();
    let run = |args: &[&str]| {
        let output = Command::output(&mut command(&[&["keeper", "--dir", folder], args].concat()));
        let output = output.unwrap();
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, text) = run(&["list"]);
    assert!(code == Some(0) && text.contains("\na  a  running, process "), "{text}");
    let (code, text) = run(&["list", "--json"]);
    assert!(code == Some(0) && text.starts_with(r#"{"instance":"a","name":"a""#), "{text}");
    assert_eq!(run(&["stop", "b"]), (Some(1), "hax: there is no instance b\n".into()));
    assert_eq!(run(&["forget", "a"]), (Some(1), "hax: a has not ended\n".into()));
    assert_eq!(run(&["stop", "a"]).0, Some(0));
    world.ended("a");
    let (_, text) = run(&["list"]);
    assert!(text.contains("ended: signal 15 (Stop)"), "{text}");
    assert_eq!(run(&["forget", "a"]), (Some(0), String::new()));
    assert_eq!(run(&["stop", "a/b"]).0, Some(2));
    drop(world);
    let (code, text) = run(&["list"]);
    assert!(code == Some(4) && text.contains("no keeper answers"), "{text}");
}
