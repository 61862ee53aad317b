//! The behaviour that the programs of all runtimes share: one list of checks from outside, with started
//! programs and real sockets. It is a test of each runtime's package; a difference is a bug in one of them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "real programs take real time")]

mod bodies;
mod consul;
#[path = "../../runtime-tokio/tests/daemon/mod.rs"]
mod daemon;
mod ending;
mod fixture;
#[path = "../../runtime-tokio/tests/common/hax.rs"]
mod hax;
mod heads;
mod http;
mod life;
mod links;
mod names;
mod operator;
mod restarts;
mod script;
mod watches;
