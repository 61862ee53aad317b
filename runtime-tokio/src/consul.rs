//! The client of Consul: one request and its response, over hyper's pool of connections.

use std::time::Duration;

use bytes::Bytes;
use hax_core::consul::port::{Answer, Method, Unanswered};
use hax_driver::consul::{self, ConsulAccess, Error};
use hax_driver::host::platform;
use hax_driver::settings::consul::ConsulSettings;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::Response;
use hyper::body::Body as _;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::connect::Connector;

/// The maximum idle time of a connection. Consul's is longer, so a call seldom meets a connection that was
/// just closed.
const IDLE: Duration = Duration::from_secs(30);

/// The maximum number of idle connections that are kept after a burst of calls.
const IDLE_MAX: usize = 16;

/// A client of one agent.
pub struct Client {
    http: legacy::Client<Connector, Full<Bytes>>,
    connector: Connector,
    access: ConsulAccess,
}

impl platform::Client for Client {
    fn new(consul: &ConsulSettings) -> Result<Self, Error> {
        let access = ConsulAccess::new(consul)?;
        let connector = Connector::new(access.address()?, access.tls()?);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(connector.clone());
        Ok(Self { http, connector, access })
    }

    fn reload(&self) -> Vec<Error> {
        self.access.reload(|tls| self.connector.replace_tls(tls))
    }

    fn problem(&self) -> Option<String> {
        self.access.problem()
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
        body_max: usize,
    ) -> Result<Answer, Unanswered> {
        let request = self.access.request(method, target).body(Full::new(body.clone()));
        // The core percent-encodes the parts of a target.
        let request = request.expect("a target is a valid path and query");
        let response = self.http.request(request).await;
        let response = response.map_err(|why| {
            self.access.on_failure(&why);
            if why.is_connect() { Unanswered::Refused } else { Unanswered::Broken }
        })?;
        let answer = read(response, body_max).await?;
        self.access.on_answer(method, target, &body, &answer);
        Ok(answer)
    }
}

async fn read(
    response: Response<hyper::body::Incoming>,
    body_max: usize,
) -> Result<Answer, Unanswered> {
    let status = response.status().as_u16();
    let index = consul::index(response.headers());
    if response.body().size_hint().lower() > u64::try_from(body_max).unwrap_or(u64::MAX) {
        return Err(Unanswered::TooLarge);
    }
    let body = Limited::new(response.into_body(), body_max).collect().await.map_err(|why| {
        let too_large = why.downcast_ref::<LengthLimitError>().is_some();
        if too_large { Unanswered::TooLarge } else { Unanswered::Broken }
    })?;
    Ok(Answer { status, index, body: body.to_bytes() })
}
