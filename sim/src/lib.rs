//! The world around the bridge, simulated.
//!
//! [`consul`] is the Consul double: a pure machine that takes HTTP requests and gives HTTP responses
//! as a real Consul 1.8.7 does. [`exec`], [`mod@file`], [`stream`] and [`fifo`] are doubles of helper programs, of
//! a disk, of HTTP answers that stay open, and of named pipes.
//! [`cluster`] makes what hare's bootstrap leaves in Consul. [`engine`] runs what happens in a world,
//! finds what breaks a rule and shrinks it; [`worlds`] has the casts: who plays, what may go wrong, and
//! which rules hold. With the feature `real`, `real` runs a real Consul beside the tests.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod consul;
pub mod engine;
pub mod exec;
pub mod fifo;
pub mod file;
pub mod fuzz;
#[cfg(feature = "real")]
pub mod real;
pub mod stream;
pub mod worlds;
