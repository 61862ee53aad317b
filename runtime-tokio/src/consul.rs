//! HTTP to the Consul agent: [`Command`] in, [`Reply`] out.

use std::collections::BTreeMap;
use std::time::Duration;

use async_channel::Sender;
use bytes::Bytes;
use hax_core::base::id::CallId;
use hax_core::consul::port::{Answer, Call, Command, Method, Reply, Unanswered};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Body as _;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::task::AbortHandle;

/// An agent on this machine accepts at once or not at all.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// Shorter than Consul keeps an idle connection, so that a call seldom meets one that just closed.
const IDLE: Duration = Duration::from_secs(30);

/// After a burst of calls so many connections are kept.
const IDLE_MAX: usize = 16;

/// The calls in flight, each a task of its own: a blocking query holds up nobody. How many there are
/// is the core's to bound.
pub struct Consul<I> {
    client: Client<HttpConnector, Full<Bytes>>,
    authority: Box<str>,
    token: Option<HeaderValue>,
    calls: BTreeMap<CallId, AbortHandle>,
    inbox: Sender<I>,
    wrap: fn(Reply) -> I,
}

impl<I: Send + 'static> Consul<I> {
    /// A client of the agent at `authority` (`HOST:PORT`). Replies are put in `inbox`, as `wrap`
    /// makes them inputs.
    #[must_use]
    pub fn new(
        authority: &str,
        token: Option<&str>,
        inbox: Sender<I>,
        wrap: fn(Reply) -> I,
    ) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_WITHIN));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(connector);
        let token = token.map(|token| {
            let mut value = HeaderValue::try_from(token).expect("settings took a printable token");
            value.set_sensitive(true);
            value
        });
        let calls = BTreeMap::new();
        Self { client, authority: authority.into(), token, calls, inbox, wrap }
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
        let request = self.request(method, &target, body);
        let client = self.client.clone();
        let (inbox, wrap) = (self.inbox.clone(), self.wrap);
        let task = tokio::spawn(async move {
            let answer = async {
                let response = client.request(request).await.map_err(|why| {
                    tracing::debug!(target: "hax", call = %id, %target, why = ?why, "Consul");
                    if why.is_connect() { Unanswered::Refused } else { Unanswered::Broken }
                })?;
                read(response, body_max).await
            };
            let result = tokio::time::timeout(within, answer).await;
            let result = result.unwrap_or(Err(Unanswered::TimedOut));
            let _ = inbox.send(wrap(Reply { id, result })).await;
        });
        self.calls.insert(id, task.abort_handle());
    }

    fn request(&self, method: Method, target: &str, body: Bytes) -> Request<Full<Bytes>> {
        let method = match method {
            Method::Get => hyper::Method::GET,
            Method::Put => hyper::Method::PUT,
            Method::Delete => hyper::Method::DELETE,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{target}", self.authority))
            .header(HOST, &*self.authority);
        if let Some(token) = &self.token {
            request = request.header("x-consul-token", token);
        }
        // The core percent-encodes what it puts in a target.
        request.body(Full::new(body)).expect("a target is a valid path and query")
    }
}

impl<I> Drop for Consul<I> {
    fn drop(&mut self) {
        self.calls.values().for_each(AbortHandle::abort);
    }
}

async fn read(
    response: Response<hyper::body::Incoming>,
    body_max: usize,
) -> Result<Answer, Unanswered> {
    let status = response.status().as_u16();
    let index = response.headers().get("x-consul-index");
    let index = index.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
    if response.body().size_hint().lower() > u64::try_from(body_max).unwrap_or(u64::MAX) {
        return Err(Unanswered::TooLarge);
    }
    let body = Limited::new(response.into_body(), body_max).collect().await.map_err(|why| {
        let too_large = why.downcast_ref::<LengthLimitError>().is_some();
        if too_large { Unanswered::TooLarge } else { Unanswered::Broken }
    })?;
    Ok(Answer { status, index, body: body.to_bytes() })
}
