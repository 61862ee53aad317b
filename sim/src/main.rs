//! Runs worlds: `hax-sim --seed N | --seeds A..B | --minutes M | --replay FILE | --mutants`.
//!
//! Exits with 0 only if all rules held; for `--mutants`, only if all planted bugs were caught.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command's output")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use hax_core::base::fact::FactKind;
use hax_core::journal;
use hax_sim::world::mutant::Mutant;
use hax_sim::world::{Outcome, Stage, Violation, Wanted, hunt, replay};

const USAGE: &str = "\
usage: hax-sim --seed N | --seeds A..B | --minutes M | --replay FILE | --mutants

  --seed N       runs one seed; the last line is its trace's hash
  --seeds A..B   runs the seeds from A to B - 1
  --minutes M    runs new seeds for so long
  --replay FILE  runs a tape, or feeds a node the journal that it wrote
  --mutants      plants bugs and looks whether they are caught (those in the core need
                 --features mutants)";

/// Where what is found is written.
const FINDINGS: &str = "target/hax-sim";
/// How a tape begins.
const TAPE: &[u8] = b"haxtape\n";
/// How long a planted bug may live.
const CATCH_WITHIN: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let held = match args[..] {
        ["--seed", n] => n.parse().ok().map(one),
        ["--seeds", range] => range.split_once("..").and_then(|(from, to)| {
            let (from, to) = (from.parse().ok()?, to.parse().ok()?);
            Some(many(from, |seed, _| seed < to))
        }),
        ["--minutes", minutes] => minutes.parse().ok().map(|minutes: u64| {
            let end = Duration::from_secs(60 * minutes);
            many(new_seed(), |_, passed| passed < end)
        }),
        ["--replay", file] => Some(again(Path::new(file))),
        ["--mutants"] => Some(mutants()),
        _ => None,
    };
    match held {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the program's own clock, not the world's")]
fn clock() -> Instant {
    Instant::now()
}

/// Seeds that nobody has run yet.
#[expect(clippy::disallowed_methods, reason = "the program's own clock, not the world's")]
fn new_seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs()) << 20
}

fn one(seed: u64) -> bool {
    let mut stage = Stage::default();
    name_when_panicking(seed);
    let outcome = hunt::seed(&mut stage, seed, Wanted::default());
    if let Some(violation) = &outcome.violation {
        tell(&mut stage, seed, violation);
    }
    println!("trace {:016x}", outcome.hash.value());
    outcome.violation.is_none()
}

fn many(from: u64, more: impl Fn(u64, Duration) -> bool) -> bool {
    let mut stage = Stage::default();
    let begun = clock();
    let (mut steps, mut broken) = (0, 0);
    let mut facts = vec![0; FactKind::ALL.len()];
    let mut seed = from;
    while more(seed, begun.elapsed()) {
        name_when_panicking(seed);
        let Outcome { violation, steps: more, facts: seen, .. } =
            hunt::seed(&mut stage, seed, Wanted::default());
        steps += more;
        facts.iter_mut().zip(&seen).for_each(|(sum, n)| *sum += n);
        if let Some(violation) = violation {
            tell(&mut stage, seed, &violation);
            broken += 1;
        }
        seed += 1;
    }
    for kind in hunt::missing(&facts) {
        println!("never seen: {}", kind.name());
    }
    let (seeds, seconds) = (seed - from, begun.elapsed().as_secs_f64());
    let rate = steps as f64 / seconds.max(0.001);
    println!(
        "seeds {from}..{seed}: {broken} broke a rule; {seeds} seeds, {steps} steps in {seconds:.1} s, \
         {rate:.0} steps a second"
    );
    broken == 0
}

/// Where panics abort, this is the last that is said.
fn name_when_panicking(seed: u64) {
    std::panic::set_hook(Box::new(move |panic| eprintln!("seed {seed}: {panic}")));
}

/// All that is to be known of a violation: what, how, and a small tape.
fn tell(stage: &mut Stage, seed: u64, violation: &Violation) {
    println!("seed {seed}: {}: {}", violation.rule, violation.what);
    let whole = hunt::tape_of(stage, seed, Wanted::default());
    let tape = hunt::shrink(stage, whole, violation.rule, None);
    let wanted = Wanted { lines: hunt::LINES, ..Wanted::default() };
    let small = hunt::tape(stage, &tape, wanted);
    show(&small);
    let mut files = vec![(format!("{seed}.tape"), [TAPE, &tape].concat())];
    for (hax, journal) in small.journals.into_iter().enumerate() {
        files.push((format!("{seed}.{hax}.journal"), journal));
    }
    for (name, bytes) in files {
        let path = PathBuf::from(FINDINGS).join(name);
        let written = fs::create_dir_all(FINDINGS).and_then(|()| fs::write(&path, bytes));
        match written {
            Ok(()) => println!("written: {}", path.display()),
            Err(why) => println!("not written: {}: {why}", path.display()),
        }
    }
}

fn show(outcome: &Outcome) {
    if let Some(swarm) = &outcome.swarm {
        println!("swarm: {swarm}");
    }
    outcome.lines.iter().for_each(|line| println!("{line}"));
    if let Some(violation) = &outcome.violation {
        println!("broken: {}: {}", violation.rule, violation.what);
    }
}

fn again(file: &Path) -> bool {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(why) => {
            eprintln!("{}: {why}", file.display());
            return false;
        }
    };
    if let Some(tape) = bytes.strip_prefix(TAPE) {
        let wanted = Wanted { lines: hunt::LINES, ..Wanted::default() };
        let outcome = hunt::tape(&mut Stage::default(), tape, wanted);
        show(&outcome);
        println!("trace {:016x}", outcome.hash.value());
        return outcome.violation.is_none();
    }
    match replay::replay(&bytes, hunt::LINES) {
        Ok(replayed) => {
            replayed.lines.iter().for_each(|line| println!("{line}"));
            if let Some(journal::Bad::CutOff) = replayed.bad {
                println!("the journal ends in the middle of a record");
            } else if let Some(bad) = replayed.bad {
                println!("the journal cannot be read on: {bad:?}");
            }
            if let Some(violation) = &replayed.violation {
                println!("broken: {}: {}", violation.rule, violation.what);
            }
            println!("{} inputs, trace {:016x}", replayed.inputs, replayed.hash.value());
            replayed.violation.is_none()
        }
        Err(bad) => {
            eprintln!("{}: neither a tape nor a journal: {bad:?}", file.display());
            false
        }
    }
}

fn mutants() -> bool {
    let (mut caught, mut planted) = (0, 0);
    for mutant in Mutant::all() {
        planted += 1;
        let mut stage = Stage::default();
        let begun = clock();
        let found = hunt::catch(&mut stage, mutant, || begun.elapsed() >= CATCH_WITHIN);
        let seconds = begun.elapsed().as_secs_f64();
        match found {
            Some((seed, violation)) => {
                caught += 1;
                println!("{mutant:?}: seed {seed}, {seconds:.2} s: {}", violation.rule);
            }
            None => println!("{mutant:?}: NOT CAUGHT in {seconds:.2} s"),
        }
    }
    println!("{caught} of {planted} caught");
    caught == planted
}
