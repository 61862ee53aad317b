//! HTTP to the Consul agent: [`Command`] in, [`Reply`] out.

mod client;
mod pool;
mod socket;
mod transport;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use async_channel::Sender;
use async_executor::Task;
use bytes::Bytes;
use futures_channel::oneshot;
use hax_core::base::id::CallId;
use hax_core::consul::port::{Call, Command, Reply, Unanswered};
use hax_driver::consul::Address;
use hax_driver::host::platform::{Client as _, Request};
use hax_driver::observe::metrics::Metrics;
use rustls::ClientConfig;

use crate::tasks::{self, within};

pub use client::Client;

/// The calls in flight, each a task of its own. How many there are is the core's to bound.
pub struct Consul<I> {
    client: Arc<Client>,
    metrics: Arc<Metrics>,
    /// Dropping a call's task drops its connection.
    calls: BTreeMap<CallId, Task<()>>,
    inbox: Sender<I>,
    wrap: fn(Reply) -> I,
}

impl<I: 'static> Consul<I> {
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
            Command::Cancel(id) => drop(self.calls.remove(&id)),
        }
    }

    fn call(&mut self, call: Call) {
        // Calls in flight are few; what has ended since the last call is forgotten here.
        self.calls.retain(|_, call| !call.is_finished());
        let Call { id, method, target, body, within: limit, body_max } = call;
        let (client, metrics) = (Arc::clone(&self.client), Arc::clone(&self.metrics));
        let (inbox, wrap) = (self.inbox.clone(), self.wrap);
        let task = tasks::spawn(async move {
            let call = metrics.call(&target);
            let answer = client.send(method, &target, body, body_max);
            let result = within(limit, answer).await.unwrap_or(Err(Unanswered::TimedOut));
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

/// All addresses of a host, looked up on a thread of its own.
pub(crate) async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let at = (host.to_owned(), port);
    alone(move || Ok(at.to_socket_addrs()?.collect())).await?
}

/// Sends one request on a connection and a thread of its own; status and body of what is answered.
pub(crate) async fn ask(
    address: &Address,
    tls: Option<Arc<ClientConfig>>,
    request: Request<'_>,
) -> anyhow::Result<(u16, Bytes)> {
    let agent = transport::agent(transport::Connector::new(address.clone(), tls));
    let Request { authority, target, token, answer_max } = request;
    let mut request = http::Request::builder().uri(format!("http://{authority}{target}"));
    request = request.header(http::header::HOST, authority);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {}", token.expose()));
    }
    let request = request.body(())?;
    alone(move || {
        let mut response =
            agent.run(request).map_err(|why| anyhow::anyhow!(transport::cause(why)))?;
        let status = response.status().as_u16();
        let body = transport::read(response.body_mut(), answer_max);
        Ok((status, body.map_err(|why| anyhow::anyhow!(why.why()))?))
    })
    .await?
}

/// What blocks, on a thread that ends with it.
async fn alone<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (say, done) = oneshot::channel();
    std::thread::Builder::new().spawn(move || {
        // Whoever asked may have gone away.
        let _ = say.send(work());
    })?;
    done.await.map_err(|_| io::Error::other("the thread ended"))
}
