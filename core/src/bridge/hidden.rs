//! What Consul does not show.
//!
//! Consul leaves out of a list what a token may not read, with the status and the index of a list that has
//! nothing in it (its ACL system filters). So a configuration that somebody has deleted, and one that hax's
//! token may not read any more, look the same, and an index that stands still says nothing of a policy that
//! is mended. What is held stays; hax says so, is not ready, and asks again without an index.
//!
//! The configuration and the checks are never all gone: nothing works without the one, and a catalog has a check
//! of each of its nodes. `processes/` may be emptied. Whether it was is told by a key's name: a single key that
//! a token may not read is refused.

use alloc::collections::BTreeSet;
use core::time::Duration;

use super::cx::{Cx, Job, Timer};
use super::tables::Tables;
use crate::base::fact::Fact;
use crate::consul::port::Answer;
use crate::consul::replica::{Moment, Table};
use crate::model::Cluster;

/// A key that is refused where `processes/` is hidden; else it is not there.
const NAMED: &str = "/v1/kv/processes/none?consistent";
/// How soon a question may ask again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long a watch of what is not shown waits, before it is read without an index.
pub(super) const WATCH: Duration = Duration::from_secs(5);

impl Tables {
    /// Whether Consul shows all tables.
    pub(crate) fn all_shown(&self) -> bool {
        self.replicas.iter().all(|replica| !replica.hidden)
    }

    /// A reading has shown nothing of `processes/` any more.
    pub(super) fn doubt_emptiness(&mut self, cx: &mut Cx<'_>, index: u64, sent: Option<Moment>) {
        cx.get(Job::Named, NAMED.into());
        self.emptied = Some((index, sent));
    }

    /// Whether one of its keys is refused, or not there.
    pub(crate) fn named(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &mut Cluster,
        answer: Option<&Answer>,
        refused: bool,
    ) {
        let table = Table::Processes;
        let Some((index, sent)) = self.emptied.take() else { return };
        if refused {
            let held = cluster.entries()[table as usize];
            self.hide(cx, table, (index, sent), held);
        } else if answer.is_some() {
            cluster.retain_words(index, &BTreeSet::new());
            self.installed(cx, cluster, table, (index, sent), 0);
        } else {
            self.replicas[table as usize].decoding = false;
            self.wants_read[table as usize] = true;
            self.failed(cx, table, Timer::Prove(table));
            self.watch(cx, table);
        }
    }

    /// A reading at `index` has shown nothing of a table that cannot be empty. The copy, if it has entries,
    /// stays. That the configuration is not there is known for sure, so what is asked is answered by the copy
    /// of it; what else is not shown may have changed unseen, and is not answered.
    pub(super) fn hide(
        &mut self,
        cx: &mut Cx<'_>,
        table: Table,
        (index, sent): (u64, Option<Moment>),
        held: usize,
    ) {
        let replica = &mut self.replicas[table as usize];
        replica.decoding = false;
        replica.still = 0;
        // Without a copy there is nothing to watch from; it is read until there is one.
        replica.index = if held == 0 { 0 } else { index };
        if table == Table::Conf {
            replica.proved = replica.proved.max(sent.unwrap_or_default());
        }
        let said = core::mem::replace(&mut replica.hidden, true);
        let answered = replica.is_fresh(replica.asked);
        if !said {
            let entries = u32::try_from(held).unwrap_or(u32::MAX);
            cx.fact(Fact::TableHidden { table: table.name(), entries });
        }
        if !answered {
            cx.arm(Timer::Prove(table), ASK_AGAIN);
        }
        self.watch(cx, table);
    }
}

/// Whether an answer has nothing in it.
pub(super) fn is_empty(answer: &Answer) -> bool {
    answer.status == 404 || matches!(answer.body.trim_ascii(), b"" | b"null" | b"[]")
}
