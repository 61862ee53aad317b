//! The decoding of the entries of `m0conf/`, and the encoding of a changed state.
//!
//! Keys and values: 4/KV; `nodes/<name>/processes/<decimal key>/…`,
//! `nodes/<fid>/processes/<fid>/services/<fid>/sdevs/<fid>`,
//! `sites/<fid>/racks/<fid>/encls/<fid>/ctrls/<fid>/drives/<fid>`.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use serde::Deserialize;

use super::{Conf, Drive, Entry, Named, Node, OnNode, Process, Service};
use crate::base::fid::{Fid, Object};
use crate::cluster::states;

/// The service types given by hare to servers, and partly to clients too. They do not determine a client's
/// type.
const OF_SERVERS: [&str; 14] = [
    "ha", "rms", "confd", "ios", "sns_rep", "sns_reb", "dix_rep", "dix_reb", "addb2", "cas",
    "iscs", "fdmi", "fis", "dtm0",
];

/// The used fields of an entry's JSON; other fields are preserved and ignored.
#[derive(Deserialize)]
struct Value<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    state: Option<Cow<'a, str>>,
    #[serde(borrow)]
    sdev: Option<Cow<'a, str>>,
    #[serde(borrow)]
    node: Option<Cow<'a, str>>,
    #[serde(borrow)]
    path: Option<Cow<'a, str>>,
}

impl Conf {
    /// Adds one entry with its `ModifyIndex`. `path` is its key after `m0conf/`.
    ///
    /// A known entry is replaced; the caller decides which one is newer. Returns `false`, without any change,
    /// if the form of the entry is unknown.
    #[must_use]
    pub fn apply(&mut self, path: &str, value: &[u8], index: u64) -> bool {
        let mut parts = [""; 10];
        let mut n = 0;
        for part in path.split('/') {
            let Some(slot) = parts.get_mut(n) else { return false };
            *slot = part;
            n += 1;
        }
        self.decode(&parts[..n], value, index).is_some()
    }

    /// Takes over from `old` the entries newer than this read at `index`: they were written meanwhile.
    pub fn keep_newer(&mut self, old: &Self, index: u64) {
        for entry in old.entries.values().filter(|entry| entry.index > index) {
            let path = entry.key.strip_prefix("m0conf/").unwrap_or(&entry.key);
            let _taken = self.apply(path, entry.value.as_bytes(), entry.index);
        }
    }

    fn decode(&mut self, parts: &[&str], value: &[u8], index: u64) -> Option<()> {
        match *parts {
            ["nodes", name, ref rest @ ..] => match name.parse() {
                Ok(node) => {
                    let node = of_type(node, Object::Node)?;
                    if self.is_contested(node, parts) {
                        return self.contest(parts, value, index);
                    }
                    let object = self.decode_by_fid(node, rest, value)?;
                    self.store(object, parts, value, index)
                }
                Err(_) => self.decode_by_name(name, rest, value),
            },
            ["sites", _, "racks", _, "encls", encl, ref rest @ ..] => {
                let encl = fid(encl, Object::Enclosure)?;
                let object = self.decode_enclosure(encl, rest, value)?;
                self.store(object, parts, value, index)
            }
            ["sites", _] | ["sites", _, "racks", _] => Some(()),
            ["pools", pool] => {
                let name = core::str::from_utf8(value).ok()?;
                self.pools.insert(fid(pool, Object::Pool)?, name.into());
                Some(())
            }
            ["profiles", profile] => {
                let value = core::str::from_utf8(value).ok()?;
                self.profiles.insert(fid(profile, Object::Profile)?, value.into());
                Some(())
            }
            _ => None,
        }
    }

    fn store(&mut self, object: Fid, parts: &[&str], value: &[u8], index: u64) -> Option<()> {
        let key = format!("m0conf/{}", parts.join("/")).into();
        let value = core::str::from_utf8(value).ok()?.into();
        self.entries.insert(object, Entry { key, value, index });
        Some(())
    }

    /// Decodes `nodes/<name>/processes/<key>/{endpoint, services/<type>, meta_data, log}`.
    fn decode_by_name(&mut self, host: &str, rest: &[&str], value: &[u8]) -> Option<()> {
        let ["processes", key, ref what @ ..] = *rest else { return None };
        let process = Fid::process(key.parse().ok()?);
        let text = || Some(core::str::from_utf8(value).ok()?.into());
        match *what {
            ["endpoint"] => self.name(process, host).endpoint = Some(text()?),
            ["meta_data"] => self.name(process, host).metadata = Some(text()?),
            ["services", kind] => {
                let named = self.name(process, host);
                if !OF_SERVERS.contains(&kind) && !named.services.iter().any(|k| **k == *kind) {
                    named.services.push(kind.into());
                }
            }
            _ => {}
        }
        Some(())
    }

    fn name(&mut self, process: Fid, host: &str) -> &mut Named {
        let all = self.named.entry(process).or_default();
        let at = all.iter().position(|named| *named.host == *host).unwrap_or_else(|| {
            let host = host.into();
            all.push(Named { host, endpoint: None, metadata: None, services: Vec::new() });
            all.len() - 1
        });
        &mut all[at]
    }

    /// Decodes `nodes/<fid>` and the entries below it. Returns the object of the entry.
    fn decode_by_fid(&mut self, node: Fid, rest: &[&str], value: &[u8]) -> Option<Fid> {
        let value = parse(value)?;
        match *rest {
            [] => {
                let name: Box<str> = value.name?.into();
                let state = states::of_hardware(value.state.as_deref(), true);
                add(self.by_host.entry(name.clone()).or_default(), node);
                let before = self.nodes.insert(node, Node { name, state });
                self.has_left(node, before);
                Some(node)
            }
            ["processes", process] => {
                let process = fid(process, Object::Process)?;
                self.process(node, process);
                Some(process)
            }
            ["processes", process, "services", service] => {
                let (process, service) =
                    (fid(process, Object::Process)?, fid(service, Object::Service)?);
                let entry = self.process(node, process);
                add(&mut entry.services, service);
                match value.name.as_deref() {
                    Some("confd") => entry.confd = true,
                    Some("ios") => entry.ios = true,
                    Some("ha") => entry.ha = true,
                    _ => {}
                }
                entry.hax = entry.ha && !entry.confd && !entry.ios;
                if entry.confd {
                    add(&mut self.confds, process);
                }
                self.service(process, service).name = value.name.unwrap_or_default().into();
                Some(service)
            }
            ["processes", process, "services", service, "sdevs", sdev] => {
                let (process, service) =
                    (fid(process, Object::Process)?, fid(service, Object::Service)?);
                let sdev = fid(sdev, Object::Sdev)?;
                let state = states::of_device(value.state.as_deref().unwrap_or(""));
                self.sdevs.insert(sdev, state);
                add(&mut self.process(node, process).services, service);
                add(&mut self.service(process, service).sdevs, sdev);
                Some(sdev)
            }
            _ => None,
        }
    }

    fn process(&mut self, node: Fid, process: Fid) -> &mut Process {
        add(&mut self.on_node.entry(node, OnNode::default).processes, process);
        self.processes.entry(process, || Process {
            node,
            services: Vec::new(),
            confd: false,
            ios: false,
            hax: false,
            ha: false,
        })
    }

    /// Removes a node from the host in its former entry.
    fn has_left(&mut self, node: Fid, before: Option<Node>) {
        let Some(Node { name, .. }) = before else { return };
        let left = |now: &Node| now.name != name;
        if self.nodes.get(node).is_some_and(left)
            && let Some(nodes) = self.by_host.get_mut(&name)
        {
            nodes.retain(|other| *other != node);
        }
    }

    fn service(&mut self, process: Fid, service: Fid) -> &mut Service {
        self.services.entry(service, || Service {
            process,
            name: Box::default(),
            sdevs: Vec::new(),
        })
    }

    fn decode_enclosure(&mut self, enclosure: Fid, rest: &[&str], value: &[u8]) -> Option<Fid> {
        let value = parse(value)?;
        let state = states::of_hardware(value.state.as_deref(), false);
        match *rest {
            [] => {
                self.enclosures.insert(enclosure, state);
                let node = value.node.and_then(|node| fid(&node, Object::Node));
                if let Some(node) = node {
                    add(&mut self.on_node.entry(node, OnNode::default).enclosures, enclosure);
                }
                Some(enclosure)
            }
            ["ctrls", ctrl] => {
                let ctrl = fid(ctrl, Object::Controller)?;
                self.controllers.insert(ctrl, state);
                Some(ctrl)
            }
            ["ctrls", ctrl, "drives", drive] => {
                let controller = fid(ctrl, Object::Controller)?;
                let sdev = fid(value.sdev.as_deref()?, Object::Sdev)?;
                let drive = fid(drive, Object::Drive)?;
                self.drives.insert(drive, Drive { sdev, controller });
                self.drive_of.insert(sdev, drive);
                Some(drive)
            }
            _ => None,
        }
    }
}

/// Returns the value of an entry with the state replaced; `None` if it is not a JSON object. All other fields
/// are preserved.
pub(in crate::cluster) fn with_state(value: &str, state: &str) -> Option<Box<str>> {
    let mut fields: serde_json::Map<_, _> = serde_json::from_str(value).ok()?;
    fields.insert("state".into(), state.into());
    Some(format!("{}", serde_json::Value::Object(fields)).into())
}

/// Returns the path of a storage device from its entry.
pub(super) fn path_of(value: &str) -> Option<Cow<'_, str>> {
    parse(value.as_bytes())?.path
}

/// Returns the name of an object from its entry.
pub(super) fn name_of(value: &str) -> Option<Cow<'_, str>> {
    parse(value.as_bytes())?.name
}

fn parse(value: &[u8]) -> Option<Value<'_>> {
    serde_json::from_slice(value).ok()
}

fn fid(text: &str, object: Object) -> Option<Fid> {
    of_type(text.parse().ok()?, object)
}

fn of_type(fid: Fid, object: Object) -> Option<Fid> {
    (fid.object() == Some(object)).then_some(fid)
}

fn add(sorted: &mut Vec<Fid>, fid: Fid) {
    if let Err(at) = sorted.binary_search(&fid) {
        sorted.insert(at, fid);
    }
}
