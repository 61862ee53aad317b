//! The code that the runtimes of hax share: the loop, the commands, settings, logs and the command line.
//!
//! A runtime brings sockets, timers and an HTTP library and implements [`host::run::Runtime`] and
//! [`host::platform::Platform`]. Everything visible to a user (flags, files, log lines, exit codes, the
//! output of `ham`) is implemented here, once.
#![deny(missing_docs)]

pub mod commands;
pub mod consul;
pub mod daemon;
#[cfg(feature = "workers")]
pub mod exec;
pub mod exit;
#[cfg(feature = "workers")]
pub mod fifo;
#[cfg(feature = "workers")]
pub mod file;
#[cfg(feature = "workers")]
pub mod folder;
pub mod ham;
pub mod host;
pub mod http;
#[cfg(feature = "services")]
pub mod keeper;
#[cfg(feature = "libmotr")]
pub mod libmotr;
mod lock;
pub mod net;
pub mod observe;
pub mod settings;
pub mod state;
pub mod tls;
