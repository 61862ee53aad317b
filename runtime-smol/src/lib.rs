//! The HA bridge between Motr and Consul on smol and ureq: the light build.
//!
//! [`Smol`] is what the commands of the program are given: sockets, timers, tasks, signals, and with
//! [`consul`] a client of Consul.

pub mod consul;
mod platform;
mod signals;
mod tasks;

pub use platform::Smol;
