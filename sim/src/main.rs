//! Runs worlds: `hax-sim [--cast NAME] --seed N | --seeds A..B | --minutes M | --replay FILE | --mutants`.
//!
//! The program exits with 0 only if all rules held. With `--mutants` it exits with 0 only if all planted bugs
//! were caught.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command's output")]

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use hax_core::journal::JournalError;
use hax_sim::engine::replay::Replayed;
use hax_sim::engine::{Cast, Outcome, RunOptions, Search, Violation, findings, search};
use hax_sim::worlds::bridge::Bridge;
use hax_sim::worlds::route::Route;
use hax_sim::worlds::services::Services;
use hax_sim::worlds::toy::Toy;

const USAGE: &str = "\
usage: hax-sim [--cast NAME] --seed N | --seeds A..B | --minutes M | --replay FILE | --mutants

  --cast NAME    who plays: bridge, route, services, or toy; a file that is replayed tells it
  --seed N [--lines N]
                 runs one seed; the last line is its trace's hash. With --lines it prints the seed's
                 last N events as they were, and makes no small tape
  --seeds A..B   runs the seeds from A to B - 1
  --minutes M    runs new seeds for so long
  --replay FILE [--lines N]
                 runs a tape, or feeds a machine the journal that it wrote, and prints its last N
                 events (200)
  --mutants      plants bugs and looks whether they are caught (those in the core need
                 --features mutants)";

/// The folder for the findings.
const FINDINGS: &str = "target/hax-sim";
/// The time limit for catching a planted bug.
const CATCH_WITHIN: Duration = Duration::from_secs(10);
/// The interval between two lines of progress, on standard error.
const PROGRESS: Duration = Duration::from_secs(60);

/// Whether the command succeeded, or none if the arguments contain no known command.
type Told = Option<bool>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let held = match args[..] {
        ["--cast", name, ref rest @ ..] => with(name, rest),
        ["--replay", file, ..] => with(&cast_of(Path::new(file)), &args),
        _ => with(findings::FIRST, &args),
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

/// Executes the arguments with the cast of this name.
fn with(cast: &str, args: &[&str]) -> Told {
    match cast {
        Bridge::NAME => run::<Bridge>(args),
        Route::NAME => run::<Route>(args),
        Services::NAME => run::<Services>(args),
        Toy::NAME => run::<Toy>(args),
        _ => None,
    }
}

/// Returns the cast of a file, or the original cast if the file names none.
fn cast_of(file: &Path) -> String {
    let bytes = fs::read(file).unwrap_or_default();
    findings::cast(&bytes).0.to_owned()
}

fn run<C: Cast>(args: &[&str]) -> Told {
    match *args {
        ["--seed", n] => n.parse().ok().map(one::<C>),
        ["--seed", n, "--lines", lines] => {
            let (n, lines) = (n.parse().ok()?, lines.parse().ok()?);
            name_when_panicking(n);
            Some(shown(Search::<C>::default().seed(n, RunOptions::default().lines(lines))))
        }
        ["--seeds", range] => range.split_once("..").and_then(|(from, to)| {
            let (from, to) = (from.parse().ok()?, to.parse().ok()?);
            Some(many::<C>(from, |seed, _| seed < to))
        }),
        ["--minutes", minutes] => minutes.parse().ok().map(|minutes: u64| {
            let end = Duration::from_secs(60 * minutes);
            many::<C>(new_seed(), |_, passed| passed < end)
        }),
        ["--replay", file] => Some(again::<C>(Path::new(file), search::LINES)),
        ["--replay", file, "--lines", n] => {
            n.parse().ok().map(|lines| again::<C>(Path::new(file), lines))
        }
        ["--mutants"] => Some(mutants::<C>()),
        _ => None,
    }
}

#[expect(clippy::disallowed_methods, reason = "the program's own clock, not the world's")]
fn clock() -> Instant {
    Instant::now()
}

/// Returns the beginning of a range of seeds that have most likely not been run yet.
#[expect(clippy::disallowed_methods, reason = "the program's own clock, not the world's")]
fn new_seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs()) << 20
}

fn one<C: Cast>(seed: u64) -> bool {
    let mut search = Search::<C>::default();
    name_when_panicking(seed);
    let outcome = search.seed(seed, RunOptions::default());
    if let Some(violation) = &outcome.violation {
        tell(&mut search, seed, violation);
    }
    println!("trace {:016x}", outcome.hash.value());
    outcome.violation.is_none()
}

fn many<C: Cast>(from: u64, more: impl Fn(u64, Duration) -> bool) -> bool {
    let mut search = Search::<C>::default();
    let begun = clock();
    let (mut steps, mut broken) = (0, 0);
    let mut facts = vec![0; Search::<C>::KINDS];
    let mut seed = from;
    let mut progress = PROGRESS;
    while more(seed, begun.elapsed()) {
        name_when_panicking(seed);
        let Outcome { violation, steps: more, facts: seen, .. } =
            search.seed(seed, RunOptions::default());
        steps += more;
        facts.iter_mut().zip(&seen).for_each(|(sum, n)| *sum += n);
        if let Some(violation) = violation {
            tell(&mut search, seed, &violation);
            broken += 1;
        }
        seed += 1;
        if begun.elapsed() >= progress {
            progress += PROGRESS;
            eprintln!("{} seeds so far, from {from}: {broken} broke a rule", seed - from);
        }
    }
    for name in Search::<C>::missing(&facts) {
        println!("never seen: {}", name);
    }
    let (seeds, seconds) = (seed - from, begun.elapsed().as_secs_f64());
    let rate = steps as f64 / seconds.max(0.001);
    println!(
        "seeds {from}..{seed}: {broken} broke a rule; {seeds} seeds, {steps} steps in {seconds:.1} s, \
         {rate:.0} steps a second"
    );
    broken == 0
}

/// Makes a panic print its seed. Where panics abort, this is the last output.
fn name_when_panicking(seed: u64) {
    std::panic::set_hook(Box::new(move |panic| eprintln!("seed {seed}: {panic}")));
}

/// Prints all details of a violation: the rule, the trace, and a small tape.
fn tell<C: Cast>(search: &mut Search<C>, seed: u64, violation: &Violation) {
    println!("seed {seed}: {}: {}", violation.rule, violation.what);
    let whole = search.tape_of(seed, RunOptions::default());
    let tape = search.shrink(whole, violation.rule, None);
    let small = search.tape(&tape, RunOptions::default().lines(search::LINES));
    show(&small);
    for (name, bytes) in findings::files(C::NAME, seed, &tape, small.journals) {
        match findings::write(Path::new(FINDINGS), &name, &bytes) {
            Ok(path) => println!("written: {}", path.display()),
            Err(why) => println!("not written: {name}: {why}"),
        }
    }
}

fn show(outcome: &Outcome) {
    if !outcome.swarm.is_empty() {
        println!("swarm: {}", outcome.swarm);
    }
    outcome.lines.iter().for_each(|line| println!("{line}"));
    if let Some(violation) = &outcome.violation {
        println!("broken: {}: {}", violation.rule, violation.what);
    }
}

/// Prints an outcome with its events. Returns whether all rules held.
fn shown(outcome: Outcome) -> bool {
    show(&outcome);
    println!("trace {:016x}", outcome.hash.value());
    outcome.violation.is_none()
}

fn again<C: Cast>(file: &Path, lines: usize) -> bool {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(why) => {
            eprintln!("{}: {why}", file.display());
            return false;
        }
    };
    let (cast, content) = findings::cast(&bytes);
    if cast != C::NAME {
        eprintln!("{}: it is of the cast {cast}", file.display());
        return false;
    }
    if let Some(tape) = findings::decisions(content) {
        return shown(Search::<C>::default().tape(tape, RunOptions::default().lines(lines)));
    }
    match Search::<C>::replay(content, lines) {
        Ok(Replayed { violation, hash, inputs, error, lines }) => {
            lines.iter().for_each(|line| println!("{line}"));
            if let Some(JournalError::CutOff) = error {
                println!("the journal ends in the middle of a record");
            } else if let Some(error) = error {
                println!("the journal cannot be read on: {error:?}");
            }
            if let Some(violation) = &violation {
                println!("broken: {}: {}", violation.rule, violation.what);
            }
            println!("{inputs} inputs, trace {:016x}", hash.value());
            violation.is_none()
        }
        Err(error) => {
            eprintln!("{}: neither a tape nor a journal: {error:?}", file.display());
            false
        }
    }
}

fn mutants<C: Cast>() -> bool {
    let (mut caught, mut planted) = (0, 0);
    for mutant in C::mutants() {
        planted += 1;
        let mut search = Search::<C>::default();
        let begun = clock();
        let found = search.catch(mutant, || begun.elapsed() >= CATCH_WITHIN);
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
