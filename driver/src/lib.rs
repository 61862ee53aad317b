//! What the runtimes of hax share: the loop, the commands, settings, logs and the command line.
//!
//! A runtime brings sockets, timers and an HTTP library and implements [`Runtime`] and
//! [`platform::Platform`]; everything that a user sees (flags, files, log lines, exit codes, `ham`'s
//! words) is here, once.
#![deny(missing_docs)]

pub mod cli;
pub mod clock;
pub mod commands;
pub mod daemon;
pub mod exit;
pub mod facts;
pub mod ham;
pub mod http;
mod identify;
pub mod journal;
#[cfg(feature = "libmotr")]
pub mod libmotr;
pub mod listen;
pub mod logs;
pub mod metrics;
pub mod net;
pub mod notify;
pub mod platform;
pub mod printable;
mod run;
pub mod serve;
pub mod settings;
pub mod signals;
pub mod status;
pub mod tls;
pub mod transport;
pub mod turn;
pub mod way;

pub use run::{Runtime, Tick, inbox, run};
