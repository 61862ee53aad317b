//! What Consul does not show.
//!
//! Consul leaves out of a list what a token may not read, with the status and the index of a list that has
//! nothing in it (its ACL system filters), and the index stands still when a policy is mended. So a table
//! that is empty and one that hax's token may not read look the same. Which it is, is told by a key's name: a
//! single key that a token may not read is refused. The catalog has a check of each of its nodes, and is never
//! empty. What is held stays; hax says so, is not ready, and asks again without an index.

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

/// How soon a question may ask again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Tables {
    /// Whether Consul shows all tables.
    pub(crate) fn all_shown(&self) -> bool {
        self.replicas.iter().all(|replica| replica.hidden.is_none())
    }

    /// A reading at `index` has shown nothing of a table.
    pub(crate) fn verify_emptiness(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &mut Cluster,
        table: Table,
        reading: Reading,
    ) {
        // A right may come between the two: the reading that counts is younger than the key's answer.
        let readable = self.readable[table as usize].take();
        if readable.is_some_and(|since| reading.sent.is_some_and(|sent| sent >= since)) {
            return self.accept_emptiness(cx, cluster, table, reading);
        }
        match named(table) {
            Some(key) => {
                self.emptied[table as usize] = Some(reading);
                let _call = cx.get(Continuation::Named(table), url::read(key));
            }
            None => self.hide(cx, cluster, table, reading, Hidden::Unreadable),
        }
    }

    /// Whether a key of a table is refused, or not there.
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

    /// A table is empty that our token may read.
    fn accept_emptiness(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &mut Cluster,
        table: Table,
        reading: Reading,
    ) {
        match table {
            // Nothing works without one: somebody is about to write it, or has deleted it.
            Table::Conf => self.hide(cx, cluster, table, reading, Hidden::Empty),
            Table::Processes | Table::Health => {
                cluster.retain_records(reading.index, &BTreeSet::new());
                self.installed(cx, cluster, table, reading, 0);
            }
        }
    }

    /// Nothing of a table is shown. What is held of it stays. Where it is known to be gone, what is asked is
    /// answered by that; else it may have changed unseen, and is not.
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
        // Without a copy there is nothing to watch from; it is read until there is one.
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

/// A key of a table that is never there: refused where the table may not be read.
fn named(table: Table) -> Option<&'static str> {
    match table {
        Table::Conf => Some("m0conf/none"),
        Table::Processes => Some(kv_index::KEY),
        Table::Health => None,
    }
}
