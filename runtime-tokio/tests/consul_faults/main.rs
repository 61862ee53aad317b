//! The daemon and a Consul that is absent, dies, hangs, errs or knows no leader: everybody is
//! answered in time, and nothing is lost.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "../daemon/mod.rs"]
mod daemon;
mod events;
mod fixture;
#[path = "../common/hax.rs"]
mod hax;
mod payloads;
mod trouble;
