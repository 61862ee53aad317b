//! The host of a machine: the loop, its clocks and signals, its ports, and the interface to a runtime.

pub mod clock;
pub mod consul;
pub mod drive;
pub mod http;
#[cfg_attr(not(feature = "services"), path = "no_keeper.rs")]
pub mod keeper;
pub mod net;
pub mod platform;
pub mod run;
pub mod serve;
pub mod signals;
pub mod step_budget;
pub mod timer;
#[cfg_attr(not(feature = "workers"), path = "no_workers.rs")]
pub mod workers;
