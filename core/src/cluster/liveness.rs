//! What is remembered of who lives and who does not.

use alloc::collections::BTreeSet;

use crate::base::fid::Fid;

/// The processes that are judged.
#[derive(Clone, Debug, Default)]
pub(super) struct Liveness {
    /// Health says that they are dead, and `processes/<fid>` does not.
    pub(super) dead: BTreeSet<Fid>,
    /// Health says that they live, and `processes/<fid>` does not, though they never said so.
    pub(super) alive: BTreeSet<Fid>,
    /// They were seen alive since we began.
    pub(super) seen: BTreeSet<Fid>,
}
