//! Who we are: what a drop-in finds out from Consul before it can listen.
//!
//! The service `hax` of our node names our process (its id), our endpoint (address and port) and
//! our HTTP port (`http_port` of its meta). Whatever is given is not asked for.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::base::fact::Fact;
use crate::base::fid::Fid;
use crate::base::id::CallId;
use crate::base::retry::{Backoff, Jitter};
use crate::base::time::{Instant, Next, Now};
use crate::consul::json::{self, Elements, Instance};
use crate::consul::port::{Call, Command, Method};
use crate::model::health::{host_of, process_of_service_id};
use crate::node::{Input, Output};

/// The old daemon's HTTP port.
const HTTP_PORT: u16 = 8008;
const WITHIN: Duration = Duration::from_secs(5);

/// What is given, and need not be found.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Our node's host name; else the local agent's.
    pub node: Option<Box<str>>,
    /// Our process.
    pub fid: Option<Fid>,
    /// The name of the endpoint at which we listen.
    pub motr_endpoint: Option<Box<str>>,
    /// Where we serve HTTP.
    pub http: Option<(Box<str>, u16)>,
    /// For jitter.
    pub seed: u64,
}

/// Who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Our node's host name.
    pub node: Box<str>,
    /// Our process.
    pub fid: Fid,
    /// The name of the endpoint at which we listen.
    pub endpoint: Box<str>,
    /// Where we serve HTTP: host.
    pub http_host: Box<str>,
    /// Where we serve HTTP: port.
    pub http_port: u16,
}

/// What an entry of the catalog tells: process, endpoint, HTTP host and port.
type Found = (Fid, Box<str>, (Box<str>, u16));

/// It was stopped before it knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// The search.
#[derive(Debug)]
pub struct Discovery {
    config: Config,
    jitter: Jitter,
    backoff: Backoff,
    next_call: CallId,
    call: Option<CallId>,
    retry_at: Option<Instant>,
    found: Option<Identity>,
    stopped: bool,
}

impl Discovery {
    /// Begins with its first `Tick`.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let jitter = Jitter::new(config.seed);
        Self {
            config,
            jitter,
            backoff: Backoff::default(),
            next_call: CallId(1),
            call: None,
            retry_at: None,
            found: None,
            stopped: false,
        }
    }

    /// Takes one input. `Exit` when all is found, or at a stop.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) -> Next {
        match input {
            Input::Stop => self.stopped = true,
            Input::Consul(reply) if self.call == Some(reply.id) => {
                self.call = None;
                let taken = match reply.result {
                    Ok(answer) if answer.status == 200 => self.take(answer.body),
                    Ok(answer) => Err(alloc::format!("Consul says {}", answer.status).into()),
                    Err(unanswered) => Err(unanswered.why().into()),
                };
                match taken {
                    Ok(()) => self.backoff.worked(),
                    Err(why) => {
                        let what = "looking up who we are; waiting";
                        out.push(Output::Fact(Fact::ConsulFailed { call: reply.id, what, why }));
                        let pause = self.backoff.failed(&mut self.jitter);
                        self.retry_at = Some(now.mono.after(pause));
                    }
                }
            }
            Input::Tick | Input::Net(_) | Input::Consul(_) | Input::Http(_) => {}
        }
        self.go_on(now, out)
    }

    fn go_on(&mut self, now: Now, out: &mut Vec<Output>) -> Next {
        if self.stopped || self.complete() {
            return Next::Exit;
        }
        if let Some(at) = self.retry_at {
            if now.mono < at {
                return Next::WaitUntil { at, why: "discover" };
            }
            self.retry_at = None;
        }
        if self.call.is_none() {
            let target = match &self.config.node {
                None => "/v1/agent/self",
                Some(_) => "/v1/catalog/service/hax",
            };
            let id = self.next_call.mint();
            self.call = Some(id);
            let (target, body) = (String::from(target), Bytes::new());
            let call =
                Call { id, method: Method::Get, target, body, within: WITHIN, body_max: 1 << 22 };
            out.push(Output::Consul(Command::Call(Box::new(call))));
        }
        Next::Wait
    }

    /// Whether everything is known, given or found.
    fn complete(&mut self) -> bool {
        if let Config {
            node: Some(node),
            fid: Some(fid),
            motr_endpoint: Some(endpoint),
            http: Some((host, port)),
            ..
        } = &self.config
        {
            self.found = Some(Identity {
                node: node.clone(),
                fid: *fid,
                endpoint: endpoint.clone(),
                http_host: host.clone(),
                http_port: *port,
            });
        }
        self.found.is_some()
    }

    fn take(&mut self, body: Bytes) -> Result<(), Box<str>> {
        let Some(node) = &self.config.node else {
            let agent: serde_json::Value = json::parse(&body)?;
            let name = agent["Config"]["NodeName"].as_str().ok_or("the agent has no name")?;
            self.config.node = Some(host_of(name).into());
            return Ok(());
        };
        let node = node.clone();
        let mut elements = Elements::new(body);
        let mut best: Option<(u64, Found)> = None;
        while let Some(instance) = elements.next::<Instance<'_>>() {
            let instance = instance?;
            let ours = *instance.node == *node || host_of(&instance.node) == &*node;
            let Some(fid) = process_of_service_id(&instance.service_id).filter(|_| ours) else {
                continue;
            };
            let port = instance
                .service_meta
                .as_ref()
                .and_then(|meta| meta.http_port.as_ref()?.parse().ok());
            // A restarted agent's former name may linger: the newest counts.
            if best.as_ref().is_none_or(|(index, ..)| *index < instance.modify_index) {
                // The agent's address needs no name service, where the node's name might.
                let host = Some(&*instance.address).filter(|address| !address.is_empty());
                let http = (host.unwrap_or(&node).into(), port.unwrap_or(HTTP_PORT));
                let found = (instance.modify_index, (fid, instance.endpoint(), http));
                best = Some(found);
            }
        }
        let Some((_, (fid, endpoint, http))) = best else {
            return Err(alloc::format!("Consul's catalog has no service hax on node {node}").into());
        };
        self.config.fid.get_or_insert(fid);
        self.config.motr_endpoint.get_or_insert(endpoint);
        self.config.http.get_or_insert(http);
        Ok(())
    }

    /// Who we are.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if a stop came first.
    pub fn into_result(self) -> Result<Identity, Stopped> {
        self.found.ok_or(Stopped)
    }
}
