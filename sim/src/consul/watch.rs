//! Watches: what an agent looks at by itself, and posts when it changes.

use std::time::Duration;

use bytes::Bytes;

use super::http::encode;
use super::read::{Read, checks_for, instances};
use super::store::Store;
use super::view::{WatchedEntry, WatchedHealth};
use super::{Consul, Output, Timer};

/// Names a watch.
pub type WatchId = u64;

/// A watch asks again after so long although nothing has passed its index.
const POLL: Duration = Duration::from_secs(300);

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watch {
    /// The instances of a service and their checks.
    Service(String),
    /// One key.
    Key(String),
    /// The keys below a prefix.
    KeyPrefix(String),
}

/// What the host is to post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// The watch, to be named when the post is done.
    pub watch: WatchId,
    /// Where to.
    pub url: String,
    /// The value of `X-Consul-Index`.
    pub index: u64,
    /// `application/json`, ended by a new line.
    pub body: Bytes,
}

/// A watch and what it has posted.
#[derive(Clone, Debug)]
pub(super) struct Watcher {
    read: Read,
    url: String,
    last: Option<(u64, Bytes)>,
    /// A post is under way: nothing is looked at before it is done.
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
    /// Posts what has passed the index of a watch.
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

    /// Looks at what is watched, and posts it if it is another than was posted last.
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
