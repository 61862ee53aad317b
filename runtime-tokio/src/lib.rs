//! The HA bridge between Motr and Consul on tokio and hyper.
//!
//! [`net`], [`consul`] and [`http`] are the core's three ports; each starts what it is told to start
//! and puts what comes of it in the one inbox. [`host`] puts them together, [`Tokio`] is what the
//! commands of the program are given, [`demo`] is a command of this program alone.

pub mod ask;
pub mod connect;
pub mod consul;
pub mod demo;
pub mod host;
pub mod http;
pub mod net;
mod platform;
mod signals;

pub use platform::Tokio;
