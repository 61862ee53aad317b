//! One request to Consul and its response, on the pool of threads.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use futures_channel::oneshot;
use hax_core::consul::port::{Answer, Method, Unanswered};
use hax_driver::consul::{ConsulAccess, Error};
use hax_driver::host::platform;
use hax_driver::settings::consul::ConsulSettings;

use super::caller::{Call, Caller};
use super::pool::{Pool, QueuedCall, Ticket};
use super::transport::{Connector, Tls};

/// A client of one agent.
pub struct Client {
    access: Arc<ConsulAccess>,
    tls: Tls,
    pool: Pool,
}

impl platform::Client for Client {
    fn new(consul: &ConsulSettings) -> Result<Self, Error> {
        let access = Arc::new(ConsulAccess::new(consul)?);
        let tls = Arc::new(RwLock::new(access.tls()?));
        let connector = Connector::with(access.address()?, Arc::clone(&tls));
        let caller = {
            let access = Arc::clone(&access);
            move || Caller::new(Arc::clone(&access), connector.own())
        };
        Ok(Self { access, tls, pool: Pool::new(caller) })
    }

    fn reload(&self) -> Vec<Error> {
        self.access.reload(|tls| *self.tls.write().unwrap_or_else(PoisonError::into_inner) = tls)
    }

    fn problem(&self) -> Option<String> {
        self.access.problem()
    }

    fn reserve(&self, blocking: usize) {
        self.pool.reserve(blocking);
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
        body_max: usize,
    ) -> Result<Answer, Unanswered> {
        let ticket = Arc::new(Ticket::default());
        let _given_up = GivenUp(Arc::clone(&ticket));
        let (say, answered) = oneshot::channel();
        let sent = body.clone();
        let call = Call { method, target: target.into(), body, body_max };
        let job = QueuedCall { call, ticket, answer: say };
        self.pool.push(job);
        // A thread that ended without an answer has broken the connection.
        let answer = answered.await.unwrap_or(Err(Unanswered::Broken))?;
        self.access.on_answer(method, target, &sent, &answer);
        Ok(answer)
    }
}

/// Cancels a call when its future is dropped.
struct GivenUp(Arc<Ticket>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.give_up();
    }
}
