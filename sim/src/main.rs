//! x
#![allow(clippy::print_stdout, clippy::disallowed_methods)]
use hax_sim::world::{self, Stage, Wanted, choice::Seed};
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (from, to): (u64, u64) = (a[1].parse().unwrap(), a[2].parse().unwrap());
    let mut stage = Stage::default();
    let t = std::time::Instant::now();
    let mut steps = 0;
    for seed in from..to {
        let out = world::run(&mut stage, &mut Seed::new(seed, 1500), Wanted::default());
        steps += out.steps;
        if a.len() > 3 { println!("{seed} steps {} time {} {:?}", out.steps, out.time / 1000000, t.elapsed()); }
        if let Some(v) = out.violation {
            println!("seed {seed}: {} — {}", v.rule, v.what);
            if a.len() > 3 {
                let out = world::run(&mut stage, &mut Seed::new(seed, 1500), Wanted { lines: 1_000_000, ..Wanted::default() });
                for l in out.lines { println!("{l}"); }
                return;
            }
        }
    }
    println!("steps {steps} {:?}", t.elapsed());
}
