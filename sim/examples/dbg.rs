//! x
#![allow(clippy::print_stdout)]
use hax_sim::world::*;
fn main() {
    let s = std::env::args().nth(1).unwrap().parse().unwrap();
    let o = hunt::seed(&mut Stage::default(), s, Wanted { lines: 1_000_000, ..Wanted::default() });
    println!("{:?}", o.violation);
    for l in o.lines {
        println!("{l}");
    }
}
