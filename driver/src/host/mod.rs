//! What runs a machine: the loop, its clocks and signals, its ports, and what a runtime brings to them.

pub mod clock;
pub mod consul;
pub mod drive;
pub mod http;
pub mod net;
pub mod platform;
pub mod run;
pub mod serve;
pub mod signals;
pub mod timer;
pub mod turn;
#[cfg_attr(not(feature = "workers"), path = "no_workers.rs")]
pub mod workers;
