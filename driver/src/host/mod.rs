//! What runs a machine: the loop, its clocks and signals, and what a runtime brings to it.

pub mod clock;
pub mod platform;
pub mod run;
pub mod serve;
pub mod signals;
pub mod turn;
