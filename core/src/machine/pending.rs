//! The requests that wait for their answer.

use alloc::collections::BTreeMap;

use super::{Cx, Kinds};
use crate::base::id::HttpId;
use crate::http::answer::Answer;

/// Requests that wait, each with what is known of it. Whatever is answered here is answered once.
#[derive(Debug)]
pub struct Pending<W>(BTreeMap<HttpId, W>);

impl<W> Default for Pending<W> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<W> Pending<W> {
    /// A request waits from now on.
    pub fn add(&mut self, id: HttpId, what: W) {
        self.0.insert(id, what);
    }

    /// What is known of a request; nothing if it does not wait.
    pub fn get_mut(&mut self, id: HttpId) -> Option<&mut W> {
        self.0.get_mut(&id)
    }

    /// Answers a request, if it waits; returns what was known of it.
    pub fn answer<K: Kinds>(
        &mut self,
        cx: &mut Cx<'_, K>,
        id: HttpId,
        answer: Answer,
    ) -> Option<W> {
        let what = self.0.remove(&id)?;
        cx.http(id, answer);
        Some(what)
    }

    /// Answers all in the same way, as a machine does that stops.
    pub fn answer_all<K: Kinds>(&mut self, cx: &mut Cx<'_, K>, answer: &Answer) {
        for id in core::mem::take(&mut self.0).into_keys() {
            cx.http(id, answer.clone());
        }
    }
}
