//! The costs of hax. [`rig`] is a bridge with a Consul double, whose time is not measured. [`peers`] is an
//! endpoint with the processes of its links. [`scenes`] are the measured scenes: `benches/core.rs` measures
//! their time, `tests/allocations.rs` their allocations.
#![forbid(unsafe_code)]

pub mod peers;
pub mod plain;
pub mod rig;
pub mod scenes;
pub mod shapes;
