//! What every runtime's program does alike: one list of checks, from outside, with started programs and
//! real sockets. Each runtime's package has it among its tests; a difference is a bug in one of them.
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
mod script;
mod watches;
