//! The daemon and a Consul that is absent, dies, hangs, fails or has no leader: every request gets a response
//! in time, and no event is lost.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "../daemon/mod.rs"]
mod daemon;
mod events;
mod fixture;
#[path = "../common/hax.rs"]
mod hax;
mod payloads;
mod trouble;
