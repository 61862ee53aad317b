//! Services with everything real: three Consul servers, `hax run`, keepers, processes, and `hax service`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod agents;
mod bridge;
mod cluster;
mod commands;
mod deaths;
mod doors;
mod programs;
mod tell;
