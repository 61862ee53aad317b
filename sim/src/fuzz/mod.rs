//! The fuzz targets as plain functions of bytes. `fuzz/` calls them with the inputs of libFuzzer. A test
//! calls them with the saved inputs (`fuzz/corpus`).
//!
//! For any bytes, nothing may panic, no output may violate the limits of a peer, the stored state is bounded,
//! and a value that was read is the same after it is written and read again.

mod account;
mod cloud;
mod codec;
mod consul;
mod http;
mod links;
mod node;
mod pair;
mod route;
mod script;
mod services;
mod tcp;
mod world;

pub use cloud::cloud;
pub use codec::codec;
pub use consul::consul;
pub use http::http;
pub use links::links;
pub use pair::{hax, process};
pub use route::{fifo, requests, route, stored};
pub use services::{answer, keeper, kind, services};
pub use world::world;

/// A fuzz target. It panics if a property does not hold.
pub type Target = fn(&[u8]);

/// The targets by name. Each name is that of the target's folder in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 16] = [
    ("cloud", cloud),
    ("codec", codec),
    ("hax", hax),
    ("process", process),
    ("http", http),
    ("consul", consul),
    ("world", world),
    ("links", links),
    ("stored", stored),
    ("fifo", fifo),
    ("requests", requests),
    ("route", route),
    ("answer", answer),
    ("kind", kind),
    ("keeper", keeper),
    ("services", services),
];
