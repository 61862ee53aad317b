//! The HA bridge between Motr and Consul on smol and ureq: the light build.
//!
//! [`Smol`] is the platform for the program's commands: sockets, timers, tasks, signals, and with [`consul`]
//! a client of Consul.

pub mod consul;
mod platform;
mod signals;
mod tasks;

pub use platform::Smol;
