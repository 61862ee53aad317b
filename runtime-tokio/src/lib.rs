//! The HA bridge between Motr and Consul on tokio and hyper.
//!
//! [`Tokio`] is what the commands of the program are given: sockets, timers, tasks, signals, and with
//! [`consul`] a client of Consul. [`demo`] is a command of this program alone.

pub mod ask;
pub mod connect;
pub mod consul;
pub mod demo;
mod platform;
mod signals;

pub use platform::Tokio;
