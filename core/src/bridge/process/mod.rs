//! Reported and derived events of processes: one lane per process, one item after another.

pub(crate) mod batch;
pub(crate) mod deliveries;
pub(crate) mod lane_cx;
pub(crate) mod lanes;
pub(crate) mod ops;
pub(crate) mod restarts;
pub(crate) mod starting;
pub(crate) mod verdicts;
pub(crate) mod work;
