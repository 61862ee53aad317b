//! A table's answer, decoded entry by entry, so that it may be done in slices.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use core::time::Duration;

use bytes::Bytes;

use super::continuation::Timer;
use super::cx::Cx;
use super::tables::Tables;
use crate::base::fact::Fact;
use crate::base::fid::Fid;
use crate::consul::json::{Elements, KvEntry, RawCheck};
use crate::consul::port::Answer;
use crate::consul::replica::{Moment, Table};
use crate::model::Cluster;
use crate::model::conf::Conf;
use crate::model::health::{Check, counts_for_node, process_of_service_id};
use crate::model::states::ProcessWord;

/// An answer that is being decoded.
#[derive(Debug)]
pub(crate) struct Decoding {
    pub(crate) table: Table,
    pub(crate) index: u64,
    /// When the read was sent; nothing for a watch's answer, which proves nothing.
    pub(crate) sent: Option<Moment>,
    pub(crate) elements: Elements,
    pub(crate) staged: Staged,
}

#[derive(Debug)]
pub(crate) enum Staged {
    Conf(Box<Conf>),
    Processes(BTreeSet<Fid>),
    Health(BTreeSet<(Box<str>, Box<str>)>),
}

impl Staged {
    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Conf(conf) => conf.len(),
            Self::Processes(read) => read.len(),
            Self::Health(read) => read.len(),
        }
    }
}

impl Decoding {
    /// Takes its next entry; nothing at its end.
    pub(crate) fn take_one(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &mut Cluster,
    ) -> Option<Result<(), Box<str>>> {
        match &mut self.staged {
            Staged::Conf(conf) => Some(self.elements.next::<KvEntry<'_>>()?.and_then(|entry| {
                let path = entry.key.strip_prefix("m0conf/").unwrap_or(&entry.key);
                // Consul itself makes the base64: where it is none, nothing of this is Consul's.
                let value = entry.bytes().ok_or("a value is not base64")?;
                if !conf.take(path, &value, entry.modify_index) {
                    cx.pass_over(&entry.key, entry.modify_index);
                }
                Ok(())
            })),
            Staged::Processes(read) => {
                Some(self.elements.next::<KvEntry<'_>>()?.and_then(|entry| {
                    let process =
                        entry.key.strip_prefix("processes/").and_then(|fid| fid.parse().ok());
                    let value = entry.bytes().ok_or("a value is not base64")?;
                    let word = ProcessWord::from_kv(&value, entry.flags);
                    if word.is_none() || process.is_none() {
                        cx.pass_over(&entry.key, entry.modify_index);
                    }
                    if let Some(process) = process {
                        read.insert(process);
                        cluster.read_word(process, word, entry.modify_index, self.index);
                    }
                    Ok(())
                }))
            }
            Staged::Health(read) => Some(self.elements.next::<RawCheck<'_>>()?.map(|raw| {
                if let Some(check) = check(&raw) {
                    read.insert((check.node.clone(), check.id.clone()));
                    cluster.take_check(check, self.index);
                }
            })),
        }
    }
}

impl Tables {
    pub(super) fn decode(
        &mut self,
        cx: &mut Cx<'_>,
        table: Table,
        answer: &Answer,
        sent: Option<Moment>,
    ) {
        // An older decoding of the same table would undo this one.
        self.decoding.retain(|decoding| decoding.table != table);
        self.emptied[table as usize] = None;
        let staged = match table {
            Table::Conf => Staged::Conf(Box::default()),
            Table::Processes => Staged::Processes(BTreeSet::new()),
            Table::Health => Staged::Health(BTreeSet::new()),
        };
        // A table that does not exist yet is a 404 without a list.
        let none = Bytes::from_static(b"null");
        let body = if answer.status == 404 { none } else { answer.body.clone() };
        let elements = Elements::new(body);
        let index = answer.index.max(1);
        self.decoding.push_back(Decoding { table, index, sent, elements, staged });
        self.replicas[table as usize].decoding = true;
        cx.arm(Timer::Slice, Duration::from_micros(1));
    }

    /// Decodes one slice, so that no answer, however large, holds up the others.
    pub(crate) fn slice(&mut self, cx: &mut Cx<'_>, cluster: &mut Cluster) {
        let Some(mut decoding) = self.decoding.pop_front() else { return };
        for _ in 0..cx.config().limit.entries_per_slice {
            match decoding.take_one(cx, cluster) {
                Some(Ok(())) => {}
                Some(Err(why)) => {
                    let table = decoding.table;
                    self.replicas[table as usize].decoding = false;
                    // What a reading was wanted for is wanted still, whatever a probe says.
                    self.wants_read[table as usize] |= decoding.sent.is_some();
                    cx.fact(Fact::ConsulBadAnswer { what: table.name(), why });
                    self.failed(cx, table, Timer::Prove(table));
                    // Its watch would bring the same again at once.
                    let pause = self.backoffs[table as usize].failed(&mut cx.shared.jitter);
                    cx.arm(Timer::Watch(table), pause);
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
            // The watch has overtaken this reading: what is held is newer than what it proves.
            let replica = &mut self.replicas[table as usize];
            replica.decoding = false;
            replica.proved = replica.proved.max(sent.unwrap_or_default());
            self.prove(cx, table);
            self.watch(cx, table);
            return;
        }
        let entries = staged.len();
        if entries == 0 {
            return self.doubt_emptiness(cx, cluster, table, (index, sent));
        }
        match staged {
            Staged::Conf(conf) => cluster.take_conf(*conf, index),
            Staged::Processes(read) => cluster.retain_words(index, &read),
            Staged::Health(read) => cluster.retain_checks(index, &read),
        }
        self.installed(cx, cluster, table, (index, sent), entries);
    }

    /// What a reading had is held.
    pub(super) fn installed(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &mut Cluster,
        table: Table,
        (index, sent): (u64, Option<Moment>),
        entries: usize,
    ) {
        let replica = &mut self.replicas[table as usize];
        let first = !replica.is_loaded();
        let shown = replica.hidden.take().is_some();
        replica.decoding = false;
        replica.index = index;
        replica.proved = replica.proved.max(sent.unwrap_or_default());
        self.backoffs[table as usize].worked();
        if sent.is_some() {
            replica.still = replica.witness;
            self.judge_posted(cx, cluster, table);
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

/// How hare names the services of Motr's processes (`hax.md` 1.5).
const NAMES: [&str; 4] = ["hax", "confd", "ios", "s3service"];

/// A check that says anything of a process; nothing for one of some other service, or for what somebody
/// has checked on a node.
pub(crate) fn check(raw: &RawCheck<'_>) -> Option<Check> {
    let process = match &*raw.service_id {
        "" if counts_for_node(&raw.check_id) => None,
        "" => return None,
        id => Some(process_of_service_id(id)?),
    };
    Some(Check {
        node: raw.node.as_ref().into(),
        id: raw.check_id.as_ref().into(),
        process,
        named: raw.service_name.is_empty() || NAMES.contains(&&*raw.service_name),
        passing: raw.status == "passing",
        index: raw.modify_index,
    })
}
