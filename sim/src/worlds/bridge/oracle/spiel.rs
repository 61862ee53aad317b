//! The rules for a hax's calls of Motr's library.

use std::collections::BTreeMap;

use hax_core::base::id::SpielId;
use hax_core::ha::spiel::{Call, Op, Reply};
use hax_core::node;

use super::broken;
use crate::engine::Violation;

#[derive(Debug, Default)]
pub(super) struct Library {
    last: u64,
    /// The library has read the configuration.
    up: bool,
    in_progress: BTreeMap<SpielId, Op>,
}

impl Library {
    pub(super) fn on_call(&mut self, config: &node::Config, call: &Call) -> Result<(), Violation> {
        let Call { id, op } = call;
        if !config.bridge.spiel {
            return broken("only what is there is asked", format!("{id}: {op:?}"));
        }
        if id.0 <= self.last {
            return broken("each question has a name of its own", format!("{id} again"));
        }
        self.last = id.0;
        if self.up == matches!(op, Op::Begin { .. }) {
            return broken("the library reads the configuration first", format!("{id}: {op:?}"));
        }
        if let Some(other) =
            self.in_progress.values().find(|other| exclude_each_other(**other, *op))
        {
            let rule = "a pool has one operation under way, and the leader one question";
            return broken(rule, format!("{op:?} beside {other:?}"));
        }
        self.in_progress.insert(*id, *op);
        let operations =
            self.in_progress.values().filter(|op| matches!(op, Op::Sns { .. })).count();
        if operations > config.bridge.limit.operations {
            return broken("operations under way are bounded", format!("{operations}"));
        }
        Ok(())
    }

    pub(super) fn on_reply(&mut self, reply: &Reply) {
        if let Some(Op::Begin { .. }) = self.in_progress.remove(&reply.id) {
            self.up = reply.result.is_ok();
        }
    }
}

/// Returns whether two calls must not be in progress together.
fn exclude_each_other(a: Op, b: Op) -> bool {
    match (a, b) {
        (Op::Sns { pool, op }, Op::Sns { pool: of, op: other }) => {
            pool == of && (op == other || !(op.is_status() || other.is_status()))
        }
        (Op::Sns { .. }, _) | (_, Op::Sns { .. }) => false,
        _ => true,
    }
}
