//! What the runtimes of hax share: the loop, the clock, settings, logs and the command line.
//!
//! A runtime brings sockets, timers and an HTTP library and implements [`Runtime`]; everything
//! that a user sees (flags, files, log lines, exit codes, `ham`'s words) is here, once.
#![deny(missing_docs)]

pub mod cli;
pub mod clock;
pub mod consul;
pub mod exit;
pub mod facts;
pub mod ham;
pub mod journal;
#[cfg(feature = "libmotr")]
pub mod libmotr;
pub mod logs;
pub mod metrics;
pub mod notify;
mod run;
pub mod secret;
pub mod settings;
pub mod status;
pub mod transport;
pub mod values;

pub use run::{Runtime, Tick, inbox, run};
