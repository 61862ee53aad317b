//! The worlds: seeds hold, the same seed is the same run, planted bugs are caught, every fact is hit.

mod journals;
mod mutants;
mod route;
mod seeds;
mod tapes;
mod toy;
