//! HTTP to the Consul agent: [`Command`] in, [`Reply`] out.

mod client;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_channel::Sender;
use hax_core::base::id::CallId;
use hax_core::consul::port::{Call, Command, Reply, Unanswered};
use hax_driver::observe::metrics::Metrics;
use tokio::task::AbortHandle;

pub use client::Client;

/// The calls in flight, each a task of its own: a blocking query holds up nobody. How many there are
/// is the core's to bound.
pub struct Consul<I> {
    client: Arc<Client>,
    metrics: Arc<Metrics>,
    calls: BTreeMap<CallId, AbortHandle>,
    inbox: Sender<I>,
    wrap: fn(Reply) -> I,
}

impl<I: Send + 'static> Consul<I> {
    /// Calls of this client. Replies are put in `inbox`, as `wrap` makes them inputs.
    #[must_use]
    pub fn new(
        client: Arc<Client>,
        metrics: Arc<Metrics>,
        inbox: Sender<I>,
        wrap: fn(Reply) -> I,
    ) -> Self {
        Self { client, metrics, calls: BTreeMap::new(), inbox, wrap }
    }

    /// Starts what the core asks for.
    pub fn execute(&mut self, command: Command) {
        match command {
            Command::Call(call) => self.call(*call),
            Command::Cancel(id) => {
                // Dropping the call's task drops its connection.
                if let Some(call) = self.calls.remove(&id) {
                    call.abort();
                }
            }
        }
    }

    fn call(&mut self, call: Call) {
        // Calls in flight are few; what has ended since the last call is forgotten here.
        self.calls.retain(|_, call| !call.is_finished());
        let Call { id, method, target, body, within, body_max } = call;
        let (client, metrics) = (Arc::clone(&self.client), Arc::clone(&self.metrics));
        let (inbox, wrap) = (self.inbox.clone(), self.wrap);
        let task = tokio::spawn(async move {
            let call = metrics.call(&target);
            let answer = client.send(method, &target, body, body_max);
            let result = tokio::time::timeout(within, answer).await;
            let result = result.unwrap_or(Err(Unanswered::TimedOut));
            if let Ok(answer) = &result {
                call.received(answer.body.len());
            }
            call.done();
            drop(call);
            let _ = inbox.send(wrap(Reply { id, result })).await;
        });
        self.calls.insert(id, task.abort_handle());
    }
}

impl<I> Drop for Consul<I> {
    fn drop(&mut self) {
        self.calls.values().for_each(AbortHandle::abort);
    }
}
