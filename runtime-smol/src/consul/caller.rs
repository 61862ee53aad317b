//! One request to Consul and its response, on a blocking thread.

use std::error::Error as StdError;
use std::sync::Arc;

use bytes::Bytes;
use hax_core::consul::port::{Answer, Method, Unanswered};
use hax_driver::consul::{self, ConsulAccess};
use http::Response;
use ureq::{Agent, Body};

use super::transport::{self, Connector, agent};

/// One request.
pub(super) struct Call {
    pub(super) method: Method,
    /// A path and a query.
    pub(super) target: String,
    pub(super) body: Bytes,
    /// The maximum length of the response, in bytes.
    pub(super) body_max: usize,
}

impl Call {
    /// Returns whether this is a blocking query, to which Consul responds only after a change.
    pub(super) fn blocks(&self) -> bool {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        query.split('&').any(|part| part.starts_with("index="))
    }
}

/// The reason why a call has no response, and ureq's error.
pub(super) type Failed = (Unanswered, Option<Box<dyn StdError + Send + Sync>>);

/// The client of one thread.
pub(super) struct Caller {
    access: Arc<ConsulAccess>,
    connector: Connector,
    agent: Agent,
}

impl Caller {
    pub(super) fn new(access: Arc<ConsulAccess>, connector: Connector) -> Self {
        Self { access, agent: agent(connector.clone()), connector }
    }

    /// Returns the agent, with its kept connection.
    pub(super) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Sends a request and returns the response.
    pub(super) fn call(&self, call: &Call) -> Result<Answer, Failed> {
        let mut response = self.run(call).map_err(|why| {
            let connecting = self.connector.was_connecting();
            let unanswered = if connecting { Unanswered::Refused } else { Unanswered::Broken };
            (unanswered, Some(transport::cause(why)))
        })?;
        let status = response.status().as_u16();
        let index = consul::index(response.headers());
        let body =
            transport::read(response.body_mut(), call.body_max).map_err(|why| (why, None))?;
        Ok(Answer { status, index, body })
    }

    fn run(&self, call: &Call) -> Result<Response<Body>, ureq::Error> {
        let request = self.access.request(call.method, &call.target);
        // The core percent-encodes the parts of a target.
        let valid = "a target is a valid path and query";
        match call.method {
            Method::Put => self.agent.run(request.body(&*call.body).expect(valid)),
            Method::Get | Method::Delete => self.agent.run(request.body(()).expect(valid)),
        }
    }

    /// Replaces the agent after a cancelled call, which has closed it.
    pub(super) fn renew(&mut self) {
        self.agent = agent(self.connector.clone());
    }

    /// Updates the problems with Consul by a failure.
    pub(super) fn on_answer(&self, (unanswered, why): Failed) -> Unanswered {
        if let Some(why) = why {
            self.access.on_failure(&*why);
        }
        unanswered
    }
}
