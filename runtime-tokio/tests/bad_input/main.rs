//! The daemon and whoever sends what no sane program sends: each gets a clear answer or a closed
//! connection, and nobody else notices.
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
