//! What one process says, and what is said for it: its lane, one thing after another.

pub(crate) mod batch;
pub(crate) mod deliveries;
pub(crate) mod lane_cx;
pub(crate) mod lanes;
pub(crate) mod ops;
pub(crate) mod restarts;
pub(crate) mod verdicts;
pub(crate) mod work;
