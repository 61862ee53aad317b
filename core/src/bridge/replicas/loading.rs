//! The loading of a table's copy from a response: decoding in slices, then installing.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use core::time::Duration;

use bytes::Bytes;

use crate::base::time::CallSeq;
use crate::bridge::context::Cx;
use crate::bridge::continuation::Timer;
use crate::bridge::replicas::Tables;
use crate::bridge::replicas::decoding::{Decoding, Staged};
use crate::cluster::Cluster;
use crate::cluster::replica::Table;
use crate::consul::json::Elements;
use crate::consul::port::Answer;
use crate::ha::fact::Fact;

/// A complete read of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// Consul's index of the response.
    pub(crate) index: u64,
    /// The `handle` call at the time of sending, if the read proves the table's state of that time.
    pub(crate) sent: Option<CallSeq>,
}

impl Tables {
    pub(crate) fn decode(
        &mut self,
        cx: &mut Cx<'_>,
        table: Table,
        answer: &Answer,
        sent: Option<CallSeq>,
    ) {
        // An older decoding of the same table would overwrite this one.
        self.decoding.retain(|decoding| decoding.table != table);
        self.emptied[table as usize] = None;
        let staged = match table {
            Table::Conf => Staged::Conf(Box::default()),
            Table::Processes => Staged::Processes(BTreeSet::new()),
            Table::Health => Staged::Health(BTreeSet::new()),
        };
        // The response for a table that does not exist yet is a 404 without a list.
        let none = Bytes::from_static(b"null");
        let body = if answer.status == 404 { none } else { answer.body.clone() };
        let elements = Elements::new(body);
        let index = answer.index.max(1);
        self.decoding.push_back(Decoding { table, index, sent, elements, staged });
        self.replicas[table as usize].decoding = true;
        cx.arm(Timer::Slice, Duration::from_micros(1));
    }

    /// Decodes one slice. A large response does not delay the others that way.
    pub(crate) fn slice(&mut self, cx: &mut Cx<'_>, cluster: &mut Cluster) {
        let Some(mut decoding) = self.decoding.pop_front() else { return };
        for _ in 0..cx.config().limit.entries_per_slice {
            match decoding.take_one(cx, cluster) {
                Some(Ok(())) => {}
                Some(Err(why)) => {
                    let table = decoding.table;
                    self.replicas[table as usize].decoding = false;
                    // The read is still needed, whatever a probe says.
                    self.wants_read[table as usize] |= decoding.sent.is_some();
                    cx.fact(Fact::ConsulBadAnswer { what: table.name(), why });
                    self.on_failed(cx, table, Timer::Prove(table));
                    // A new watch would return the same response at once.
                    cx.retry(Timer::Watch(table), &mut self.backoffs[table as usize]);
                    self.rearm(cx);
                    return;
                }
                None => {
                    self.install(cx, cluster, decoding);
                    self.rearm(cx);
                    return;
                }
            }
        }
        self.decoding.push_back(decoding);
        self.rearm(cx);
    }

    fn rearm(&self, cx: &mut Cx<'_>) {
        if !self.decoding.is_empty() {
            cx.arm(Timer::Slice, Duration::from_micros(1));
        }
    }

    fn install(&mut self, cx: &mut Cx<'_>, cluster: &mut Cluster, decoding: Decoding) {
        let Decoding { table, index, sent, staged, .. } = decoding;
        if index < self.replicas[table as usize].index {
            // The watch has overtaken this read: the copy is newer than the state that the read proves.
            let replica = &mut self.replicas[table as usize];
            replica.decoding = false;
            replica.proved = replica.proved.max(sent.unwrap_or_default());
            self.prove(cx, table);
            self.watch(cx, table);
            return;
        }
        let entries = staged.len();
        if entries == 0 {
            return self.verify_emptiness(cx, cluster, table, Reading { index, sent });
        }
        match staged {
            Staged::Conf(conf) => cluster.apply_conf(*conf, index),
            Staged::Processes(read) => cluster.retain_records(index, &read),
            Staged::Health(read) => cluster.retain_checks(index, &read),
        }
        self.installed(cx, cluster, table, Reading { index, sent }, entries);
    }

    /// Records that a read's entries are installed as the copy.
    pub(crate) fn installed(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &mut Cluster,
        table: Table,
        Reading { index, sent }: Reading,
        entries: usize,
    ) {
        let replica = &mut self.replicas[table as usize];
        let first = !replica.is_loaded();
        let shown = replica.hidden.take().is_some();
        replica.decoding = false;
        replica.index = index;
        replica.proved = replica.proved.max(sent.unwrap_or_default());
        self.backoffs[table as usize].reset();
        if sent.is_some() {
            replica.kv_index_proved = replica.kv_index_sent;
            self.check_posted(cx, cluster, table);
        }
        if first {
            let entries = u32::try_from(entries).unwrap_or(u32::MAX);
            cx.fact(Fact::ReplicaLoaded { table: table.name(), index, entries });
        } else if shown {
            cx.fact(Fact::TableShown { table: table.name() });
        }
        self.prove(cx, table);
        self.watch(cx, table);
    }
}
