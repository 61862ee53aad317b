//! Tables hidden by Consul.
//!
//! Consul filters the entries that a token may not read out of a list. The status and the index of such a
//! response are those of an empty list (its ACL system filters). The index does not change when a policy is
//! corrected. So an empty table and an unreadable one look the same. A read of a single key distinguishes
//! them: it is refused if the token may not read the key. The catalog is never empty, since it has a check of
//! each of its nodes.
//!
//! The copy of a hidden table is kept. hax reports the fact, is not ready, and reads again without an index.

use alloc::collections::BTreeSet;
use core::time::Duration;

use crate::bridge::context::Cx;
use crate::bridge::continuation::{Continuation, Timer};
use crate::bridge::replicas::Tables;
use crate::bridge::replicas::kv_index;
use crate::bridge::replicas::loading::Reading;
use crate::cluster::Cluster;
use crate::cluster::replica::{Hidden, Table};
use crate::consul::port::Answer;
use crate::consul::url;
use crate::ha::fact::Fact;

/// The minimum delay before a waiting request causes another read.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Tables {
    /// Returns whether Consul shows all tables.
    pub(crate) fn all_shown(&self) -> bool {
        self.replicas.iter().all(|replica| replica.hidden.is_none())
    }

    /// Verifies an empty read at `index`.
    pub(crate) fn verify_emptiness(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &mut Cluster,
        table: Table,
        reading: Reading,
    ) {
        // The permission may be granted between the two reads, so the list must be read after the key.
        let readable = self.readable[table as usize].take();
        if readable.is_some_and(|since| reading.sent.is_some_and(|sent| sent >= since)) {
            return self.accept_emptiness(cx, cluster, table, reading);
        }
        match named(table) {
            Some(key) => {
                self.emptied[table as usize] = Some(reading);
                let _call = cx.get(Continuation::ReadCheck(table), url::read(key));
            }
            None => self.hide(cx, cluster, table, reading, Hidden::Unreadable),
        }
    }

    /// Handles the read of a table's key. The result tells whether the table may be read.
    pub(crate) fn on_named(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &Cluster,
        table: Table,
        answer: Option<&Answer>,
        refused: bool,
    ) {
        let Some(reading) = self.emptied[table as usize].take() else { return };
        if refused {
            return self.hide(cx, cluster, table, reading, Hidden::Unreadable);
        }
        self.replicas[table as usize].decoding = false;
        if answer.is_none() {
            self.wants_read[table as usize] = true;
            self.on_failed(cx, table, Timer::Prove(table));
            self.watch(cx, table);
        } else {
            self.readable[table as usize] = Some(cx.call_seq());
            self.reread(cx, table);
        }
    }

    /// Accepts a table as empty after the token's permission to read it was verified.
    fn accept_emptiness(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &mut Cluster,
        table: Table,
        reading: Reading,
    ) {
        match table {
            // hax does not work without a configuration: it is about to be written, or was deleted.
            Table::Conf => self.hide(cx, cluster, table, reading, Hidden::Empty),
            Table::Processes | Table::Health => {
                cluster.retain_records(reading.index, &BTreeSet::new());
                self.installed(cx, cluster, table, reading, 0);
            }
        }
    }

    /// Marks a table as hidden and keeps its copy.
    ///
    /// If the table is known to be gone, requests are answered from the copy. If it is unreadable, it may
    /// have changed unseen, and requests wait.
    fn hide(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &Cluster,
        table: Table,
        Reading { index, sent }: Reading,
        how: Hidden,
    ) {
        self.backoffs[table as usize].reset();
        let entries = cluster.entries()[table as usize];
        let replica = &mut self.replicas[table as usize];
        (replica.decoding, replica.kv_index_proved) = (false, 0);
        // Without a copy a watch has no index to start from; the table is read until there is a copy.
        replica.index = if entries == 0 { 0 } else { index };
        if how == Hidden::Empty {
            replica.proved = replica.proved.max(sent.unwrap_or_default());
        }
        let said = replica.hidden.replace(how) == Some(how);
        let answered = replica.is_fresh(replica.asked);
        if !said {
            let (table, entries) = (table.name(), u32::try_from(entries).unwrap_or(u32::MAX));
            cx.fact(match how {
                Hidden::Unreadable => Fact::TableUnreadable { table, entries },
                Hidden::Empty => Fact::TableEmpty { table, entries },
            });
        }
        if !answered {
            cx.arm(Timer::Prove(table), ASK_AGAIN);
        }
        self.watch(cx, table);
    }
}

/// Returns a non-existent key of a table. Its read is refused if the table may not be read.
fn named(table: Table) -> Option<&'static str> {
    match table {
        Table::Conf => Some("m0conf/none"),
        Table::Processes => Some(kv_index::KEY),
        Table::Health => None,
    }
}
