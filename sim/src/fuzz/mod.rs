//! What the fuzzers do with bytes, as plain functions: `fuzz/` hands them what libFuzzer invents, a test
//! hands them what was found worth keeping (`fuzz/corpus`). Whatever the bytes are, nothing may panic,
//! nothing may be emitted that a peer could not bear, what is kept is bounded, and what is read is
//! written back the same.

mod account;
mod codec;
mod consul;
mod http;
mod node;
mod pair;
mod route;
mod script;
mod tcp;
mod world;

pub use codec::codec;
pub use consul::consul;
pub use http::http;
pub use pair::{hax, process};
pub use route::{fifo, requests, route, stored};
pub use world::world;

/// What a fuzzer calls: it panics if anything does not hold.
pub type Target = fn(&[u8]);

/// The targets by their names, which are those of their folders in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 10] = [
    ("codec", codec),
    ("hax", hax),
    ("process", process),
    ("http", http),
    ("consul", consul),
    ("world", world),
    ("stored", stored),
    ("fifo", fifo),
    ("requests", requests),
    ("route", route),
];
