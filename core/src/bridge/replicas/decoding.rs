//! The decoding of a table's response, entry by entry, so that it can be done in slices.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;

use crate::base::fid::Fid;
use crate::base::time::CallSeq;
use crate::bridge::context::Cx;
use crate::cluster::Cluster;
use crate::cluster::conf::Conf;
use crate::cluster::health::{Check, counts_for_node, process_of_service_id};
use crate::cluster::replica::Table;
use crate::cluster::states::ProcessRecord;
use crate::consul::json::{Elements, KvEntry, RawCheck};

/// A response during its decoding.
#[derive(Debug)]
pub(crate) struct Decoding {
    pub(crate) table: Table,
    pub(crate) index: u64,
    /// The `handle` call at the time of sending; `None` for a watch's response, which proves nothing.
    pub(crate) sent: Option<CallSeq>,
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
    /// Returns the number of entries.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Conf(conf) => conf.len(),
            Self::Processes(read) => read.len(),
            Self::Health(read) => read.len(),
        }
    }
}

impl Decoding {
    /// Decodes the next entry; returns `None` at the end.
    pub(crate) fn take_one(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &mut Cluster,
    ) -> Option<Result<(), Box<str>>> {
        match &mut self.staged {
            Staged::Conf(conf) => Some(self.elements.next::<KvEntry<'_>>()?.and_then(|entry| {
                let path = entry.key.strip_prefix("m0conf/").unwrap_or(&entry.key);
                // Consul itself encodes base64: an invalid encoding means that the response is not Consul's.
                let value = entry.bytes().ok_or("a value is not base64")?;
                if !conf.apply(path, &value, entry.modify_index) {
                    cx.skip_malformed(&entry.key, entry.modify_index);
                }
                Ok(())
            })),
            Staged::Processes(read) => {
                Some(self.elements.next::<KvEntry<'_>>()?.and_then(|entry| {
                    let process =
                        entry.key.strip_prefix("processes/").and_then(|fid| fid.parse().ok());
                    let value = entry.bytes().ok_or("a value is not base64")?;
                    let record = ProcessRecord::from_kv(&value, entry.flags);
                    if record.is_none() || process.is_none() {
                        cx.skip_malformed(&entry.key, entry.modify_index);
                    }
                    if let Some(process) = process {
                        read.insert(process);
                        cluster.apply_read_record(process, record, entry.modify_index, self.index);
                    }
                    Ok(())
                }))
            }
            Staged::Health(read) => Some(self.elements.next::<RawCheck<'_>>()?.map(|raw| {
                if let Some(check) = check(&raw) {
                    read.insert((check.node.clone(), check.id.clone()));
                    cluster.apply_check(check, self.index);
                }
            })),
        }
    }
}

/// The names of the services of Motr's processes as registered by hare (`hax.md` 1.5).
const NAMES: [&str; 4] = ["hax", "confd", "ios", "s3service"];

/// Returns a relevant check of a process or a node; `None` for a check of another service or a custom check
/// of a node.
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
