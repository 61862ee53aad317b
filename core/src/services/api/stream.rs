//! Open responses with all changes of instances, as server-sent events.
//!
//! A listener gets all instances first, then each change. There is one watch for all listeners, and none
//! without any.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::context::{Call, Cx, Timer};
use super::refuse;
use crate::base::id::HttpId;
use crate::consul::json::{self, KvEntry};
use crate::consul::port::Answer;
use crate::consul::url;
use crate::http::stream::{Begin, Closed, Command, EVENTS};
use crate::services::model::keys::{self, Side};
use crate::services::model::record::Observed;
use crate::services::model::stored;
use crate::store::watch::Watch;

/// The maximum number of listeners.
const LISTENERS_MAX: usize = 64;
/// The duration of a blocking query.
const WATCH: Duration = Duration::from_secs(60);

/// All listeners.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: BTreeSet<HttpId>,
    watch: Option<Watch>,
    /// The last observation of each instance, by its key, with its index.
    seen: BTreeMap<String, (u64, Value)>,
    is_loaded: bool,
}

impl Streams {
    /// Adds a listener.
    pub(super) fn begin(&mut self, cx: &mut Cx<'_>, id: HttpId) {
        if self.open.len() >= LISTENERS_MAX {
            return cx.http(id, refuse(503, "there are too many open responses already"));
        }
        cx.emit(Command::Begin(Begin { id, status: 200, content_type: EVENTS }));
        self.open.insert(id);
        if self.is_loaded {
            let all: String = self.seen.values().map(|(_, value)| event(value)).collect();
            cx.emit(Command::Chunk { id, bytes: all.into() });
        } else {
            self.watch(cx);
        }
    }

    /// Sends the next query of the watch.
    pub(super) fn watch(&mut self, cx: &mut Cx<'_>) {
        if !self.open.is_empty() {
            let new = || Watch::new(url::tree(keys::INSTANCES));
            self.watch.get_or_insert_with(new).send(cx, Call::Watch, WATCH);
        }
    }

    pub(super) fn on_watched(&mut self, cx: &mut Cx<'_>, answer: Option<&Answer>) {
        let Some(watch) = &mut self.watch else { return };
        if let Some(answer) = watch.on_answer(cx, Timer::Watch, answer) {
            let entries =
                if answer.status == 404 { Ok(Vec::new()) } else { json::parse(&answer.body) };
            let text = entries.map(|entries| self.changes(&entries)).unwrap_or_default();
            self.is_loaded = true;
            if !text.is_empty() {
                let bytes = Bytes::from(text);
                for id in &self.open {
                    cx.emit(Command::Chunk { id: *id, bytes: bytes.clone() });
                }
            }
            self.watch(cx);
        }
    }

    fn changes(&mut self, entries: &[KvEntry<'_>]) -> String {
        let mut text = String::new();
        for entry in entries {
            let Some((node, kind, Side::Observed)) = keys::parse_instance(&entry.key) else {
                continue;
            };
            let index = entry.modify_index;
            if self.seen.get(&*entry.key).is_some_and(|(old, _)| *old == index) {
                continue;
            }
            let observed = entry.bytes().and_then(|bytes| stored::decode::<Observed>(&bytes).ok());
            let value = json!({ "type": kind, "node": node, "index": index, "observed": observed });
            text += &event(&value);
            self.seen.insert((&*entry.key).into(), (index, value));
        }
        text
    }

    /// Removes a listener whose response is closed.
    pub(super) fn on_closed(&mut self, cx: &mut Cx<'_>, closed: Closed) {
        self.open.remove(&closed.id);
        if self.open.is_empty() {
            cx.cancel_where(|call| call == Call::Watch);
            cx.disarm(Timer::Watch);
            *self = Self::default();
        }
    }

    /// Ends all responses.
    pub(super) fn end(&mut self, cx: &mut Cx<'_>) {
        for id in core::mem::take(&mut self.open) {
            cx.emit(Command::End { id });
        }
    }
}

/// Returns one server-sent event.
fn event(value: &Value) -> String {
    format!("event: instance\ndata: {value}\n\n")
}
