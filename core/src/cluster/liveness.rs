//! The liveness of processes.

use alloc::collections::BTreeSet;

use crate::base::fid::Fid;

/// The results of assessing processes.
#[derive(Clone, Debug, Default)]
pub(super) struct Liveness {
    /// The dead processes according to health, but not according to `processes/<fid>`.
    pub(super) dead: BTreeSet<Fid>,
    /// The live processes according to health, but not according to `processes/<fid>`. They did not report
    /// their stop.
    pub(super) alive: BTreeSet<Fid>,
    /// The processes seen alive since hax started.
    pub(super) seen: BTreeSet<Fid>,
}
