//! The program `hax-sim`: its output and its exit codes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hax_sim::engine::{Cast as _, RunOptions, Search, findings};
use hax_sim::worlds::bridge::{Bridge, Mutant};
use hax_sim::worlds::toy::Toy;

/// Runs the program in a folder of its own, where it may write findings.
fn run(folder: &Path, args: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_hax-sim"));
    program.args(args).current_dir(folder).output().expect("it starts")
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn last_line(output: &Output) -> String {
    text(output).lines().last().unwrap_or_default().to_owned()
}

/// Returns the number before a word of a line.
fn before(line: &str, word: &str) -> f64 {
    let words: Vec<&str> = line.split(' ').collect();
    let pair = words.windows(2).find(|pair| pair[1].trim_end_matches(',') == word);
    pair.expect("the word")[0].parse().expect("a number")
}

#[test]
fn a_seed_ends_with_the_hash_of_its_trace() {
    let folder = folder("seed");
    let lines: Vec<String> = ["3", "3", "4"]
        .iter()
        .map(|seed| {
            let output = run(&folder, &["--seed", seed]);
            assert!(output.status.success(), "{}", text(&output));
            last_line(&output)
        })
        .collect();
    let hash = lines[0].strip_prefix("trace ").expect("a trace");
    assert!(hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
    assert_eq!(lines[0], lines[1], "the same seed is the same run, in another program");
    assert_ne!(lines[0], lines[2]);
}

#[test]
fn seeds_are_counted_and_timed() {
    let output = run(&folder("seeds"), &["--seeds", "1..6"]);
    assert!(output.status.success(), "{}", text(&output));
    let line = last_line(&output);
    assert_eq!(before(&line, "seeds"), 5.0, "{line}");
    assert!(before(&line, "steps") > 1_000.0 && line.ends_with("steps a second"), "{line}");
    let output = run(&folder("seeds"), &["--minutes", "0"]);
    assert!(output.status.success() && before(&last_line(&output), "seeds") == 0.0);
}

#[test]
fn a_tape_and_a_journal_are_replayed() {
    let folder = folder("replay");
    let mut search = Search::<Bridge>::default();
    let options = RunOptions::default().lines(5);
    let tape = search.tape_of(7, options);
    let outcome = search.tape(&tape, options);
    fs::write(folder.join("good.tape"), [b"haxtape\n".as_slice(), &tape].concat()).expect("a file");
    fs::write(folder.join("good.journal"), &outcome.journals[0]).expect("a file");
    fs::write(folder.join("junk"), "junk").expect("a file");

    let output = run(&folder, &["--replay", "good.tape"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(last_line(&output), format!("trace {:016x}", outcome.hash.value()));
    let output = run(&folder, &["--replay", "good.journal"]);
    assert!(output.status.success() && last_line(&output).contains("inputs, trace "));
    for bad in ["junk", "missing"] {
        assert_eq!(run(&folder, &["--replay", bad]).status.code(), Some(1), "{bad}");
    }
}

#[test]
fn another_cast_is_named_or_told_by_its_files() {
    let folder = folder("cast");
    let output = run(&folder, &["--cast", "toy", "--seeds", "1..6"]);
    assert!(output.status.success(), "{}", text(&output));
    let mut search = Search::<Toy>::default();
    let tape = search.tape_of(7, RunOptions::default());
    let outcome = search.tape(&tape, RunOptions::default().lines(5));
    for (name, file) in findings::files(Toy::NAME, 7, &tape, outcome.journals) {
        fs::write(folder.join(&name), file).expect("a file");
        let output = run(&folder, &["--replay", &name]);
        assert!(output.status.success(), "{name}: {}", text(&output));
        let output = run(&folder, &["--cast", "bridge", "--replay", &name]);
        assert_eq!(output.status.code(), Some(1), "{name} is of another cast");
    }
    let output = run(&folder, &["--replay", "7.tape"]);
    assert_eq!(last_line(&output), format!("trace {:016x}", outcome.hash.value()));
    assert_eq!(run(&folder, &["--cast", "nobody", "--seed", "1"]).status.code(), Some(2));
}

#[test]
fn what_it_does_not_know_is_refused_with_its_usage() {
    for args in [&[][..], &["--seed"], &["--seed", "x"], &["--seeds", "5"], &["--mutant"]] {
        let output = run(&folder("usage"), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("usage: hax-sim"));
    }
}

#[test]
fn all_mutants_are_caught() {
    let planted = Mutant::all().count();
    assert!(planted >= 15, "{planted}");
    let output = run(&folder("mutants"), &["--mutants"]);
    assert_eq!(last_line(&output), format!("{planted} of {planted} caught"), "{}", text(&output));
    assert!(output.status.success());
}
