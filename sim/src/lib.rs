//! The world around the bridge, simulated.
//!
//! [`consul`] is the Consul double: a pure machine that takes HTTP requests and gives HTTP responses
//! as a real Consul 1.8.7 does. [`cluster`] makes what hare's bootstrap leaves in it. [`world`] puts
//! haxes, Motr processes and Consul together, lets everything go wrong, and looks whether all rules
//! hold. With the feature `real`, `real` runs a real Consul beside the tests.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod consul;
pub mod engine;
pub mod fuzz;
#[cfg(feature = "real")]
pub mod real;
pub mod worlds;
