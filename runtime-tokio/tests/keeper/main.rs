//! Tests of `hax keeper` with real processes. The processes fork, daemonize, ignore signals, close and flood
//! their output, and run as other users. The keeper is killed and frozen while they run.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod adoption;
mod clients;
mod ends;
mod guide;
mod many;
mod output;
mod starts;
mod world;
