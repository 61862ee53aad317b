//! The HA bridge between Motr and Consul on tokio and hyper.
//!
//! [`net`], [`consul`] and [`http`] are the core's three ports; each starts what it is told to start
//! and puts what comes of it in the one inbox. [`host`] puts them together, [`daemon`] is `hax run`,
//! [`ham`], [`status`], [`check`] and [`demo`] are the other commands.

pub mod check;
pub mod connect;
pub mod consul;
pub mod daemon;
pub mod demo;
pub mod ham;
pub mod host;
pub mod http;
pub mod identify;
pub mod listen;
pub mod net;
pub mod remote;
pub mod signals;
pub mod status;
