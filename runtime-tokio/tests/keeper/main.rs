//! `hax keeper` with real processes: they fork, daemonize, ignore signals, close and flood their output, run as other
//! users; and the keeper is killed and frozen among them.
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
