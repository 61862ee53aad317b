//! Nodes with services, their keepers, and the Consul double, without a network. The tests check what is
//! started and stopped, where and when, and what is written.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod deaths;
mod faults;
mod field;
mod found;
mod guide;
mod http;
mod keeper;
mod lives;
mod message;
mod programs;
mod rules;
mod scripted;
mod seen;
mod swarm;
mod tell;
