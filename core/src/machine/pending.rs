//! HTTP requests waiting for their response.

use alloc::collections::BTreeMap;

use super::{Cx, Kinds};
use crate::base::id::HttpId;
use crate::http::answer::Answer;

/// Waiting requests, each with its context. Each request is answered exactly once.
#[derive(Debug)]
pub struct Pending<W>(BTreeMap<HttpId, W>);

impl<W> Default for Pending<W> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<W> Pending<W> {
    /// Adds a request.
    pub fn add(&mut self, id: HttpId, what: W) {
        self.0.insert(id, what);
    }

    /// Returns the context of a request; `None` if the request does not wait.
    pub fn get_mut(&mut self, id: HttpId) -> Option<&mut W> {
        self.0.get_mut(&id)
    }

    /// Answers a request if it waits, and returns its context.
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

    /// Answers all requests in the same way, as a stopping machine does.
    pub fn answer_all<K: Kinds>(&mut self, cx: &mut Cx<'_, K>, answer: &Answer) {
        for id in core::mem::take(&mut self.0).into_keys() {
            cx.http(id, answer.clone());
        }
    }
}
