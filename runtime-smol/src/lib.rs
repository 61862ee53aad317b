//! The HA bridge between Motr and Consul on smol, async-io and ureq: the light build.
//!
//! [`net`], [`consul`] and [`http`] are the core's three ports; each starts what it is told to start
//! and puts what comes of it in the one inbox. [`host`] puts them together, [`Smol`] is what the commands
//! of the program are given.

pub mod consul;
pub mod host;
pub mod http;
pub mod net;
mod platform;
mod signals;
mod tasks;

pub use platform::Smol;
