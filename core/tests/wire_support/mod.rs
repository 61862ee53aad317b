//! Fixtures of the wire's tests: tapes of captured traffic, and a world of machines.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests; each test uses a part of them"
)]

pub mod account;
mod kept;
mod network;
pub mod tape;
pub mod world;
