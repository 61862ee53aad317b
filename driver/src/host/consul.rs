//! The port to the Consul agent: [`Command`] in, [`Reply`] out.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_channel::Sender;
use hax_core::base::id::CallId;
use hax_core::consul::port::{Call, Command, Reply, Unanswered};

use super::platform::{Client as _, Platform, Task as _};
use super::timer::within;
use crate::observe::metrics::Metrics;

/// The calls in flight, each a task of its own: a blocking query holds up nobody. How many there are is the
/// core's to bound.
pub struct Consul<P: Platform, I> {
    client: Arc<P::Client>,
    metrics: Arc<Metrics>,
    /// Dropping a call's task drops its connection.
    calls: BTreeMap<CallId, P::Task<()>>,
    inbox: Sender<I>,
    wrap: fn(Reply) -> I,
}

impl<P: Platform, I: 'static> Consul<P, I> {
    /// Calls of this client. Replies are put in `inbox`, as `wrap` makes them inputs.
    #[must_use]
    pub fn new(
        client: Arc<P::Client>,
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
            Command::Cancel(id) => drop(self.calls.remove(&id)),
        }
    }

    fn call(&mut self, call: Call) {
        // Calls in flight are few; what has ended since the last call is forgotten here.
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
