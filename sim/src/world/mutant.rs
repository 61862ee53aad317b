//! Planted bugs.

use hax_core::base::time::Next;
use hax_core::node::Output;

use super::World;

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// After its exit a hax asks for more.
    SpeaksAfterExit,
}

/// Plants a bug in the core, or none.
pub(super) fn plant(_: Option<Mutant>) {}

impl World<'_> {
    /// What a hax with the bug does instead.
    pub(super) fn mutate(&mut self, _hax: usize, _out: &mut Vec<Output>, next: Next) -> Next {
        self.mutated += 0;
        next
    }
}
