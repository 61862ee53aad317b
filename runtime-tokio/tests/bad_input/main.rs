//! The daemon and clients that send malformed input: each gets a clear response or a closed connection, and
//! no other client is affected.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "../daemon/mod.rs"]
mod daemon;
mod fixture;
mod flood;
#[path = "../common/hax.rs"]
mod hax;
mod http;
mod json;
mod liar;
mod lies;
mod messages;
mod slow;
mod usage;
mod wire;
