//! Watches: an agent reads data by itself, and posts it when it changes.

use std::time::Duration;

use bytes::Bytes;

use super::http::encode;
use super::read::{Read, checks_for, instances};
use super::store::Store;
use super::view::{WatchedEntry, WatchedHealth};
use super::{Consul, Output, Timer};

/// Identifies a watch.
pub type WatchId = u64;

/// The time after which a watch reads again although its index has not been passed.
const POLL: Duration = Duration::from_secs(300);

/// The data of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watch {
    /// The instances of a service and their checks.
    Service(String),
    /// One key.
    Key(String),
    /// The keys below a prefix.
    KeyPrefix(String),
}

/// A post for the host to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// The watch, for [`Consul::on_post_done`] after the post.
    pub watch: WatchId,
    /// The URL of the receiver.
    pub url: String,
    /// The value of `X-Consul-Index`.
    pub index: u64,
    /// The body: `application/json`, ended by a newline.
    pub body: Bytes,
}

/// A watch with its last post.
#[derive(Clone, Debug)]
pub(super) struct Watcher {
    read: Read,
    url: String,
    last: Option<(u64, Bytes)>,
    /// A post is in progress: the watch does not read before it is done.
    pub(super) busy: bool,
}

impl Watcher {
    pub(super) fn new(watch: &Watch, url: &str) -> Self {
        let read = match watch.clone() {
            Watch::Service(name) => Read::HealthService { name, tag: None, passing: false },
            Watch::Key(key) => Read::Key { key, raw: false },
            Watch::KeyPrefix(prefix) => Read::Tree { prefix },
        };
        Self { read, url: url.to_owned(), last: None, busy: false }
    }

    fn payload(&self, store: &Store) -> Bytes {
        let body = match &self.read {
            Read::HealthService { name, .. } => {
                let found = instances(store, name, None).map(|(node, service)| {
                    WatchedHealth::new(node, service, &checks_for(store, node, service))
                });
                encode(&found.collect::<Vec<_>>(), false)
            }
            Read::Key { key, .. } => encode(&store.kv.get(key).map(WatchedEntry), false),
            Read::Tree { prefix } => {
                let entries: Vec<_> = store.below(prefix).map(WatchedEntry).collect();
                encode(&(!entries.is_empty()).then_some(entries), false)
            }
            _ => unreachable!("not a kind of watch"),
        };
        Bytes::from([&body[..], b"\n"].concat())
    }
}

impl Consul {
    /// Posts the data of the watches whose index has been passed.
    pub(super) fn fire_watches(&mut self, out: &mut Vec<Output>) {
        let passed = self.watches.iter().filter(|(_, watch)| {
            let last = watch.last.as_ref().map(|(index, _)| *index);
            !watch.busy && last.is_some_and(|last| watch.read.index(&self.store) > last)
        });
        let passed: Vec<WatchId> = passed.map(|(id, _)| *id).collect();
        for id in passed {
            self.poll_watch(id, out);
        }
    }

    /// Reads the data of a watch, and posts it if it differs from the last post.
    pub(super) fn poll_watch(&mut self, id: WatchId, out: &mut Vec<Output>) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        self.timers.arm(Timer::Watch(id), self.store.now.after(POLL));
        if watch.busy {
            return;
        }
        let (index, body) = (watch.read.index(&self.store), watch.payload(&self.store));
        let news = watch.last.as_ref().is_none_or(|(_, last)| *last != body);
        watch.last = Some((index, body.clone()));
        if news {
            watch.busy = true;
            out.push(Output::Post(Post { watch: id, url: watch.url.clone(), index, body }));
        }
    }
}
