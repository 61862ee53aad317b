//! One request to Consul and its answer, on the pool of threads.

use std::error::Error as StdError;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use futures_channel::oneshot;
use hax_core::consul::port::{Answer, Method, Unanswered};
use hax_driver::consul::{self, ConsulAccess, Error};
use hax_driver::host::platform;
use hax_driver::settings::consul::ConsulSettings;
use hax_driver::settings::secret::Secret;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderValue, Request, Response};
use ureq::{Agent, Body};

use super::pool::{Job, Pool, Ticket};
use super::transport::{self, Connector, Tls, agent};

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

    fn trouble(&self) -> Option<String> {
        self.access.trouble()
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
        let job = Job { method, target: target.into(), body, body_max, ticket, answer: say };
        self.pool.push(job);
        // A thread that is gone has left the connection broken.
        let answer = answered.await.unwrap_or(Err(Unanswered::Broken))?;
        self.access.judge(method, target, &sent, &answer);
        Ok(answer)
    }
}

/// Gives a call up that nobody waits for any more.
struct GivenUp(Arc<Ticket>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

/// Why a call has no answer, and what ureq has to say of it.
pub(super) type Failed = (Unanswered, Option<Box<dyn StdError + Send + Sync>>);

/// What one thread calls with.
pub(super) struct Caller {
    access: Arc<ConsulAccess>,
    connector: Connector,
    agent: Agent,
}

impl Caller {
    fn new(access: Arc<ConsulAccess>, connector: Connector) -> Self {
        Self { access, agent: agent(connector.clone()), connector }
    }

    /// The agent, with the connection that it keeps.
    pub(super) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Makes a call.
    pub(super) fn call(&self, job: &Job) -> Result<Answer, Failed> {
        let mut response = self.run(job).map_err(|why| {
            let connecting = self.connector.was_connecting();
            let unanswered = if connecting { Unanswered::Refused } else { Unanswered::Broken };
            (unanswered, Some(transport::cause(why)))
        })?;
        let status = response.status().as_u16();
        let index = response.headers().get("x-consul-index");
        let index = index.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
        let body = transport::read(response.body_mut(), job.body_max).map_err(|why| (why, None))?;
        Ok(Answer { status, index, body })
    }

    fn run(&self, job: &Job) -> Result<Response<Body>, ureq::Error> {
        let mut request = Request::builder()
            .method(consul::verb(job.method))
            .uri(self.access.uri(&job.target))
            .header(HOST, self.access.authority());
        let now = self.access.credentials();
        if let Some(token) = &now.token {
            request = request.header("x-consul-token", header("", token));
        }
        if let Some(basic) = &now.basic {
            request = request.header(AUTHORIZATION, header("Basic ", basic));
        }
        // The core percent-encodes what it puts in a target.
        let valid = "a target is a valid path and query";
        match job.method {
            Method::Put => self.agent.run(request.body(&*job.body).expect(valid)),
            Method::Get | Method::Delete => self.agent.run(request.body(()).expect(valid)),
        }
    }

    /// Begins anew after a call was given up, which was the end of the agent.
    pub(super) fn renew(&mut self) {
        self.agent = agent(self.connector.clone());
    }

    /// Takes from a failure what it tells about the way.
    pub(super) fn judge(&self, (unanswered, why): Failed) -> Unanswered {
        if let Some(why) = why {
            self.access.failed(&*why);
        }
        unanswered
    }
}

fn header(scheme: &str, secret: &Secret) -> HeaderValue {
    let value = HeaderValue::try_from(format!("{scheme}{}", secret.expose()));
    let mut value = value.expect("a secret is printable ASCII");
    value.set_sensitive(true);
    value
}
