//! Tests of the worlds: all rules hold for seeds, the same seed makes the same run, planted bugs are caught,
//! and every fact is reached.

mod journals;
mod mutants;
mod route;
mod seeds;
mod services;
mod takeover;
mod tapes;
mod toy;
