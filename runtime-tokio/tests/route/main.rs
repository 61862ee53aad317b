//! Tests of `hax route` from outside: the real program under its eight names, real pipes, real files, real
//! routes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "what cannot be tested here is said")]

#[path = "../common/certs.rs"]
mod certs;
mod clouds;
mod consul;
mod contrib;
mod faults;
#[path = "../common/hax.rs"]
mod hax;
mod linux;
mod pair;
mod power;
mod router;
mod scripts;
mod server;
