//! The port to the Consul agent: [`Command`] in, [`Reply`] out.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_channel::Sender;
use hax_core::base::id::CallId;
use hax_core::consul::port::{Call, Command, Reply, Unanswered};

use super::platform::{Client as _, Platform, Task as _};
use super::timer::within;
use crate::observe::metrics::Metrics;

/// The calls in flight. Each is a task of its own, so a blocking query delays no other call. The core bounds
/// their number.
pub struct Consul<P: Platform, I> {
    client: Arc<P::Client>,
    metrics: Arc<Metrics>,
    /// Dropping a call's task drops its connection.
    calls: BTreeMap<CallId, P::Task<()>>,
    inbox: Sender<I>,
    wrap: fn(Reply) -> I,
}

impl<P: Platform, I: 'static> Consul<P, I> {
    /// Creates a port without calls. `wrap` converts replies into inputs, which are put in `inbox`.
    #[must_use]
    pub fn new(
        client: Arc<P::Client>,
        metrics: Arc<Metrics>,
        inbox: Sender<I>,
        wrap: fn(Reply) -> I,
    ) -> Self {
        Self { client, metrics, calls: BTreeMap::new(), inbox, wrap }
    }

    /// Executes a command of the core.
    pub fn execute(&mut self, command: Command) {
        match command {
            Command::Call(call) => self.call(*call),
            Command::Cancel(id) => drop(self.calls.remove(&id)),
        }
    }

    fn call(&mut self, call: Call) {
        // Completed calls are removed here; there are few calls in flight.
        self.calls.retain(|_, call| !call.is_finished());
        let Call { id, method, target, body, within: limit, body_max } = call;
        let (client, metrics) = (Arc::clone(&self.client), Arc::clone(&self.metrics));
        let (inbox, wrap) = (self.inbox.clone(), self.wrap);
        let task = P::spawn(async move {
            let call = metrics.call(&target);
            let answer = client.send(method, &target, body, body_max);
            let result = within::<P, _>(limit, answer).await;
            let result = result.unwrap_or(Err(Unanswered::TimedOut));
            if let Ok(answer) = &result {
                call.received(answer.body.len());
            }
            call.done();
            drop(call);
            let _ = inbox.send(wrap(Reply { id, result })).await;
        });
        self.calls.insert(id, task);
    }
}
