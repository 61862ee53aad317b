//! The built-in Consul: the simulator's double behind a real HTTP server.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_lite::future::or;
use hax_core::base::time::Next;
use hax_driver::host::clock::Clock;
use hax_sim::consul::{Consul, Output, Request, RequestId, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

/// A token with read access but no write access, as an ACL token in Consul.
pub const READER: &str = "reader";

struct Double {
    state: Mutex<State>,
    /// A signal for a possible change of the next deadline.
    changed: Notify,
    clock: Clock,
}

struct State {
    consul: Consul,
    next: Next,
    last: RequestId,
    waiting: BTreeMap<RequestId, oneshot::Sender<Response>>,
}

/// Serves a Consul of one node at `listener` for as long as the future lives.
pub async fn serve(listener: TcpListener, node: &str, clock: Clock) {
    serve_agents(vec![(listener, node)], clock).await;
}

/// Serves a Consul with an agent on each of these nodes for as long as the future lives.
pub async fn serve_agents(agents: Vec<(TcpListener, &str)>, clock: Clock) {
    let (listeners, nodes): (Vec<_>, Vec<_>) = agents.into_iter().unzip();
    let consul = Consul::cluster(&nodes);
    let state = State { consul, next: Next::Wait, last: 0, waiting: BTreeMap::new() };
    let double = Arc::new(Double { state: Mutex::new(state), changed: Notify::new(), clock });
    // They end with this future.
    let mut served = JoinSet::new();
    for (agent, listener) in listeners.into_iter().enumerate() {
        served.spawn(accept(listener, Arc::clone(&double), agent));
    }
    let ended = async { drop(served.join_next().await) };
    or(ended, double.tick()).await;
}

async fn accept(listener: TcpListener, double: Arc<Double>, agent: usize) {
    while let Ok((stream, _)) = listener.accept().await {
        let double = Arc::clone(&double);
        let service = service_fn(move |request| {
            let double = Arc::clone(&double);
            async move { Ok::<_, Infallible>(double.answer(request, agent).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            // A failed client does not concern the others.
            let _ = connection.await;
        });
    }
}

impl Double {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(
        &self,
        request: hyper::Request<Incoming>,
        agent: usize,
    ) -> hyper::Response<Full<Bytes>> {
        let method = request.method().as_str().to_owned();
        let target = request.uri().path_and_query().map_or("/", |t| t.as_str()).to_owned();
        let token = request.headers().get("x-consul-token");
        if method != "GET" && token.is_some_and(|token| token == READER) {
            let refusal = Full::new(Bytes::from_static(b"Permission denied"));
            let refusal = hyper::Response::builder().status(403).body(refusal);
            return refusal.expect("a status and a body");
        }
        let Ok(body) = request.into_body().collect().await else {
            return hyper::Response::default();
        };
        let (respond, response) = oneshot::channel();
        let id = {
            let state = &mut *self.state();
            state.last += 1;
            state.waiting.insert(state.last, respond);
            let mut request = Request::new(state.last, &method, &target, body.to_bytes());
            request.agent = agent;
            let mut out = Vec::new();
            state.next = state.consul.handle(self.clock.now(), request, &mut out);
            state.release(out);
            state.last
        };
        self.changed.notify_one();
        let _forget = Forget(self, id);
        let Ok(response) = response.await else { return hyper::Response::default() };
        let mut built = hyper::Response::builder().status(response.status);
        for (name, value) in response.headers {
            built = built.header(name, value);
        }
        built.body(Full::new(response.body)).expect("the double's headers are valid")
    }

    async fn tick(&self) {
        loop {
            let next = self.state().next;
            let due = async {
                match next {
                    Next::WaitUntil { at, .. } => {
                        tokio::time::sleep_until(self.clock.at(at).into()).await;
                    }
                    Next::Wait | Next::Exit => std::future::pending().await,
                }
            };
            or(self.changed.notified(), due).await;
            let state = &mut *self.state();
            let mut out = Vec::new();
            state.next = state.consul.tick(self.clock.now(), &mut out);
            state.release(out);
        }
    }
}

impl State {
    fn release(&mut self, out: Vec<Output>) {
        for output in out {
            // The double has no watches in the demo: the demo plays them itself, also with a real Consul.
            if let Output::Response(response) = output
                && let Some(client) = self.waiting.remove(&response.id)
            {
                let _ = client.send(response);
            }
        }
    }
}

/// A guard for the blocking query of a client. It cancels the query if the client goes away.
struct Forget<'a>(&'a Double, RequestId);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if state.waiting.remove(&self.1).is_some() {
            state.consul.cancel(self.1);
        }
    }
}
