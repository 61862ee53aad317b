//! Two routers with one group, the Consul double and a route table, without a network. The tests check which
//! router acts, and when.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod due;
mod groups;
mod pair;
mod peer;
