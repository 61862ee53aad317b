//! The HA bridge between Motr and Consul on tokio and hyper.
//!
//! [`Tokio`] is the platform for the program's commands: sockets, timers, tasks, signals, and with [`consul`]
//! a client of Consul. The command [`demo`] exists only in this program.

pub mod ask;
pub mod connect;
pub mod consul;
pub mod demo;
mod platform;
mod signals;

pub use platform::Tokio;
