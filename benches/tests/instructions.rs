//! The guard on instructions: callgrind counts those of the machine itself, which do not depend on
//! what else the computer does, nor on how fast it is.
//!
//! Each scene is run with two numbers of repetitions, and the difference is what one takes. The
//! limits are of the test profile on x86-64, and leave room for another compiler.
#![cfg(target_arch = "x86_64")]

use std::process::Command;

const BRIDGE: &str = "hax_core::bridge::Bridge::handle";
const ENDPOINT: &str = "hax_core::wire::endpoint::Endpoint::handle";

/// The instructions within `machine` of a scene that is repeated so often.
fn instructions(scene: &str, machine: &str, times: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={machine}"))
        .args([env!("CARGO_BIN_EXE_scene"), scene, &times.to_string()])
        .output()
        .expect("valgrind was there a moment ago");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let count = said.lines().find_map(|line| line.split_once("Collected :"));
    let (_, count) = count.unwrap_or_else(|| panic!("callgrind says what it collected: {said}"));
    count.trim().parse().unwrap_or_else(|_| panic!("a number: {count}"))
}

#[test]
fn no_scene_takes_more_instructions_than_it_may() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "there is no valgrind");
        return eprintln!("skipped: there is no valgrind");
    }
    // What is counted, how many of it are in one repetition, and what one of them may take at most.
    let scenes = [
        ("entrypoint", BRIDGE, "an entrypoint in a storm", 1_000, 3_200),
        ("question", BRIDGE, "a question for 1,024 states", 1, 99_000),
        ("event", BRIDGE, "a process event", 1, 89_000),
        ("payload", BRIDGE, "an instance of a payload", 100, 36_000),
        ("broadcast", ENDPOINT, "a link of a broadcast, and its acknowledgement", 20, 35_000),
    ];
    let mut dear = Vec::new();
    for (scene, machine, what, each, most) in scenes {
        let (few, many) = (instructions(scene, machine, 1), instructions(scene, machine, 6));
        assert!(many > few, "{scene}: {machine} is found");
        let found = (many - few) / 5 / each;
        println!("{what}: {found} instructions, at most {most}");
        if found > most {
            dear.push(what);
        }
    }
    assert!(dear.is_empty(), "{dear:?}");
}
