//! What hax costs. [`rig`] is a bridge with a Consul double that is asked outside of the measured
//! time, [`peers`] an endpoint with the processes of its links, [`scenes`] what is measured with
//! both, by `benches/core.rs` in time and by `tests/allocations.rs` in allocations.
#![forbid(unsafe_code)]

pub mod peers;
pub mod plain;
pub mod rig;
pub mod scenes;
pub mod shapes;
