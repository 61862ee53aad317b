//! The simulated world around the bridge.
//!
//! [`consul`] is the Consul double: a pure machine that takes HTTP requests and gives HTTP responses as a
//! real Consul 1.8.7 does. [`exec`], [`mod@file`], [`stream`] and [`fifo`] are doubles of helper programs, of
//! a disk, of streaming HTTP responses, and of named pipes.
//!
//! [`cluster`] creates the state that hare's bootstrap leaves in Consul. [`engine`] runs the events of a
//! world, finds violations of rules, and shrinks their tapes. [`worlds`] has the casts, each with its
//! machines, its faults, and its rules. With the feature `real`, `real` runs a real Consul beside the tests.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod consul;
mod due;
pub mod engine;
pub mod exec;
pub mod fifo;
pub mod file;
pub mod fuzz;
#[cfg(feature = "real")]
pub mod real;
pub mod stream;
pub mod worlds;
