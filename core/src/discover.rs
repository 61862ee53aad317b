//! Discovery of the own identity: the facts that a drop-in replacement reads from Consul before it can
//! listen.
//!
//! The service `hax` of our node contains our process (its id), our endpoint (address and port) and our HTTP
//! port (`http_port` of its meta). The key `ssl/hax` tells whether HTTP is served with TLS (`hax.md` 1.1). A
//! restarted agent has a new name, and its entries under former names may remain. So the entries under the
//! local agent's current name count first. Configured values are not read from Consul. Motr's library, if
//! used, also needs the services of our process: `m0conf/nodes/<node>/processes/<key>/services/<type>`.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use crate::base::fid::Fid;
use crate::base::id::CallId;
use crate::base::retry::Backoff;
use crate::base::time::{Next, Now};
use crate::cluster::health::{host_of, process_of_service_id};
use crate::consul::json::{self, Elements, Instance, KvEntry};
use crate::consul::port::{Answer, Reply};
use crate::consul::url;
use crate::ha::fact::Fact;
use crate::machine::{
    self, ExitReason, Failure, FailureKind, Input, Kept, Kinds, Limits, Machine, Named, Outcome,
    Output, Status,
};

/// The old daemon's HTTP port.
const HTTP_PORT: u16 = 8008;
const WITHIN: Duration = Duration::from_secs(5);

/// The configured values; they need not be discovered.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Our node's host name; otherwise it is taken from the local agent.
    pub node: Option<Box<str>>,
    /// The fid of our process.
    pub fid: Option<Fid>,
    /// The name of our listening endpoint.
    pub motr_endpoint: Option<Box<str>>,
    /// The host and port of our HTTP server.
    pub http: Option<(Box<str>, u16)>,
    /// Whether the key `ssl/hax` is used.
    pub ask_tls: bool,
    /// Whether the services of our process are needed.
    pub ask_services: bool,
    /// The seed of jitter.
    pub seed: u64,
}

/// Our identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Our node's host name.
    pub node: Box<str>,
    /// The fid of our process.
    pub fid: Fid,
    /// The name of our listening endpoint.
    pub endpoint: Box<str>,
    /// The host of our HTTP server.
    pub http_host: Box<str>,
    /// The port of our HTTP server.
    pub http_port: u16,
    /// The TLS files of the HTTP server, if it uses TLS.
    pub http_tls: Option<TlsFiles>,
    /// The services of our process, if they are needed.
    pub services: Option<Services>,
}

/// The services of our process, as needed by Motr's library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Services {
    /// The service of the type `ha`.
    pub ha: Fid,
    /// The resource manager: the service of the type `rms`.
    pub rm: Fid,
}

/// The used part of the value of `ssl/hax`: paths on our machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The path of the certificate.
    pub cert: Box<str>,
    /// The path of its key.
    pub key: Box<str>,
}

/// The value of `ssl/hax`.
#[derive(Deserialize)]
struct Ssl {
    http_protocol: Box<str>,
    #[serde(default)]
    cert_path: Box<str>,
    #[serde(default)]
    key_path: Box<str>,
}

/// A read from Consul.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// The name of the local agent's node. It contains our host's name.
    Node,
    /// The same name, to distinguish entries of one host.
    Agent,
    /// Our entry in the catalog.
    Entry,
    /// The TLS setting of HTTP.
    Tls,
    /// The services of our process.
    Services,
}

/// The data of an entry of the catalog.
struct Found {
    /// The Consul node of the entry.
    agent: Box<str>,
    index: u64,
    fid: Fid,
    endpoint: Box<str>,
    /// The host and port of the HTTP server.
    http: (Box<str>, u16),
}

impl Found {
    fn of(instance: &Instance<'_>, node: &str) -> Option<Self> {
        let ours = *instance.node == *node || host_of(&instance.node) == node;
        let fid = process_of_service_id(&instance.service_id).filter(|_| ours)?;
        let meta = instance.service_meta.as_ref();
        let port = meta.and_then(|meta| meta.http_port.as_ref()?.parse().ok());
        // The agent's address needs no name resolution, while the node's name might.
        let host = Some(&*instance.address).filter(|address| !address.is_empty());
        let http = (host.unwrap_or(node).into(), port.unwrap_or(HTTP_PORT));
        let (agent, index) = ((*instance.node).into(), instance.modify_index);
        Some(Self { agent, index, fid, endpoint: instance.endpoint(), http })
    }
}

/// The error of a discovery stopped before it was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl Named for Question {
    fn name(&self) -> &'static str {
        "looking up who we are; waiting"
    }
}

/// The only timer: the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Retry;

impl Named for Retry {
    fn name(&self) -> &'static str {
        "discover"
    }
}

#[derive(Debug)]
struct DiscoveryKinds;

impl Kinds for DiscoveryKinds {
    type Continuation = Question;
    type Timer = Retry;
    type Output = Output;
    type Shared = ();
}

type Cx<'a> = machine::Cx<'a, DiscoveryKinds>;

/// The discovery, as a machine.
#[derive(Debug)]
pub struct Discovery {
    kept: Kept<DiscoveryKinds>,
    search: Search,
}

/// The values known so far.
#[derive(Debug)]
struct Search {
    config: Config,
    backoff: Backoff,
    /// The missing data reported last.
    lacking: Option<Box<str>>,
    /// The name of the local agent's node, once it is known; empty if the agent does not report it.
    agent: Option<Box<str>>,
    /// Entries of several Consul nodes claim our host.
    asks_agent: bool,
    tls_known: bool,
    http_tls: Option<TlsFiles>,
    services: Option<Services>,
    found: Option<Identity>,
    stopped: bool,
}

impl Discovery {
    /// Creates a discovery; its first `Tick` starts it.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let limits = Limits { call: WITHIN, answer_bytes: 1 << 22 };
        let kept = Kept::new(CallId::first(1), config.seed, limits, ());
        let search = Search {
            config,
            backoff: Backoff::default(),
            lacking: None,
            agent: None,
            asks_agent: false,
            tls_known: false,
            http_tls: None,
            services: None,
            found: None,
            stopped: false,
        };
        Self { kept, search }
    }

    /// Returns our identity.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if a stop came first.
    pub fn into_result(self) -> Result<Identity, Stopped> {
        self.search.found.ok_or(Stopped)
    }
}

impl Search {
    fn answered(&mut self, cx: &mut Cx<'_>, reply: &Reply) {
        let Some(question) = cx.take(reply.id) else { return };
        if let (Question::Agent, Ok(answer)) = (question, &reply.result) {
            // Without the agent's name all entries count equally.
            self.agent = Some(agent_of(&answer.body).unwrap_or_default());
            return;
        }
        let taken = match cx.outcome(question, reply) {
            Outcome::Answered(answer) => self.take(cx, question, answer),
            Outcome::Refused(_) | Outcome::Failed => return cx.retry(Retry, &mut self.backoff),
        };
        match taken {
            Ok(()) => {
                self.backoff.reset();
                self.lacking = None;
            }
            Err(why) => {
                // Missing data is reported only once.
                let again = self.lacking.as_ref() == Some(&why);
                self.lacking = Some(why.clone());
                let kind = if again { FailureKind::Again } else { FailureKind::New };
                cx.emit(Failure { call: reply.id, what: question.name(), why, kind });
                cx.retry(Retry, &mut self.backoff);
            }
        }
    }

    fn take(
        &mut self,
        cx: &mut Cx<'_>,
        question: Question,
        answer: &Answer,
    ) -> Result<(), Box<str>> {
        match (question, answer.status) {
            (Question::Node, 200) => self.take_node(&answer.body),
            (Question::Entry, 200) => self.take_entry(answer.body.clone()),
            (Question::Tls, 200) => {
                self.take_tls(cx, &answer.body);
                Ok(())
            }
            (Question::Tls, 404) => {
                self.tls_known = true;
                Ok(())
            }
            (Question::Services, 200) => self.take_services(answer.body.clone()),
            (Question::Services, 404) => self.take_services(Bytes::from_static(b"[]")),
            (_, status) => Err(alloc::format!("status {status}").into()),
        }
    }

    fn go_on(&self, cx: &mut Cx<'_>) {
        if cx.is_armed(Retry) || cx.in_flight().next().is_some() {
            return;
        }
        let (question, target) = match &self.config.node {
            None => (Question::Node, url::AGENT.into()),
            Some(_) if self.asks_agent && self.agent.is_none() => {
                (Question::Agent, url::AGENT.into())
            }
            Some(_) if !self.is_known() => (Question::Entry, url::service("hax")),
            Some(_) if self.config.ask_tls && !self.tls_known => {
                (Question::Tls, url::key("ssl/hax") + "?raw")
            }
            Some(_) => (Question::Services, url::tree(&self.services_prefix())),
        };
        cx.get(question, target);
    }

    /// Returns whether all values except TLS and services are known.
    fn is_known(&self) -> bool {
        let Config { node, fid, motr_endpoint, http, .. } = &self.config;
        node.is_some() && fid.is_some() && motr_endpoint.is_some() && http.is_some()
    }

    /// Completes the identity. Returns whether everything is known.
    fn complete(&mut self) -> bool {
        if let Config {
            node: Some(node),
            fid: Some(fid),
            motr_endpoint: Some(endpoint),
            http: Some((host, port)),
            ask_tls,
            ask_services,
            ..
        } = &self.config
            && (self.tls_known || !ask_tls)
            && (self.services.is_some() || !ask_services)
        {
            self.found = Some(Identity {
                node: node.clone(),
                fid: *fid,
                endpoint: endpoint.clone(),
                http_host: host.clone(),
                http_port: *port,
                http_tls: self.http_tls.clone(),
                services: self.services,
            });
        }
        self.found.is_some()
    }

    fn take_node(&mut self, body: &[u8]) -> Result<(), Box<str>> {
        let name = agent_of(body)?;
        self.config.node = Some(host_of(&name).into());
        self.agent = Some(name);
        Ok(())
    }

    /// Applies the TLS setting. A malformed value is ignored, as by the old daemon.
    fn take_tls(&mut self, cx: &mut Cx<'_>, body: &[u8]) {
        self.tls_known = true;
        match json::parse::<Ssl>(body) {
            Ok(Ssl { http_protocol, cert_path: cert, key_path: key }) => {
                if &*http_protocol == "https" {
                    self.http_tls = Some(TlsFiles { cert, key });
                }
            }
            Err(_) => cx.emit(Output::Fact(Fact::EntrySkipped { key: "ssl/hax".into() })),
        }
    }

    fn take_entry(&mut self, body: Bytes) -> Result<(), Box<str>> {
        let Some(node) = self.config.node.clone() else { return Ok(()) };
        let mut elements = Elements::new(body);
        let mut found = Vec::new();
        while let Some(instance) = elements.next::<Instance<'_>>() {
            found.extend(Found::of(&instance?, &node));
        }
        let one = |found: &Found| self.agent.as_ref() == Some(&found.agent);
        if found.windows(2).any(|two| two[0].agent != two[1].agent) && self.agent.is_none() {
            self.asks_agent = true;
            return Ok(());
        }
        if found.iter().any(one) {
            found.retain(one);
        }
        let there: BTreeSet<Fid> = found.iter().map(|found| found.fid).collect();
        found.retain(|found| self.config.fid.is_none_or(|fid| found.fid == fid));
        // Otherwise the newest entry counts.
        let Some(Found { fid, endpoint, http, .. }) = found.into_iter().max_by_key(|f| f.index)
        else {
            return Err(missing(&node, self.config.fid, &there));
        };
        self.config.fid = Some(fid);
        self.config.motr_endpoint.get_or_insert(endpoint);
        self.config.http.get_or_insert(http);
        Ok(())
    }

    /// Returns the prefix of hare's keys with the numbers of our process's services, under the node's name.
    fn services_prefix(&self) -> String {
        let node = self.config.node.as_deref().unwrap_or_default();
        let key = self.config.fid.map_or(0, |fid| fid.key);
        alloc::format!("m0conf/nodes/{node}/processes/{key}/services/")
    }

    fn take_services(&mut self, body: Bytes) -> Result<(), Box<str>> {
        let prefix = self.services_prefix();
        let (mut elements, mut ha, mut rm) = (Elements::new(body), None, None);
        while let Some(entry) = elements.next::<KvEntry<'_>>() {
            let entry = entry?;
            match entry.key.strip_prefix(&*prefix) {
                Some("ha") => ha = entry.number(),
                Some("rms") => rm = entry.number(),
                _ => {}
            }
        }
        let lacks = |service: &str| {
            alloc::format!(
                "Motr's library wants the numbers of hax's services, and Consul has none in the key \
                 {prefix}{service}: is {} hax's process (--fid), and {} its node (--node)?",
                self.config.fid.unwrap_or_default(),
                self.config.node.as_deref().unwrap_or_default()
            )
        };
        let ha = Fid::service(ha.ok_or_else(|| lacks("ha"))?);
        let rm = Fid::service(rm.ok_or_else(|| lacks("rms"))?);
        self.services = Some(Services { ha, rm });
        Ok(())
    }
}

impl Machine for Discovery {
    type Fact = Fact;

    /// Takes one input. Returns `Exit` when everything is known, or at a stop.
    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) -> Next {
        let Self { kept, search } = self;
        let mut cx = kept.cx(now, out);
        match input {
            Input::Stop => search.stopped = true,
            Input::Consul(reply) => search.answered(&mut cx, &reply),
            Input::Tick
            | Input::Net(_)
            | Input::Spiel(_)
            | Input::Http(_)
            | Input::HttpStream(_)
            | Input::Exec(_)
            | Input::File(_)
            | Input::Fifo(_)
            | Input::Keeper(_) => {}
        }
        while cx.next_due().is_some() {}
        if search.stopped || search.complete() {
            return Next::Exit;
        }
        search.go_on(&mut cx);
        kept.next()
    }

    fn blocking_queries(&self) -> usize {
        0
    }

    fn status(&self) -> Status {
        Status { text: "Looking up who this is", stopping: self.search.stopped }
    }

    fn exit(&self) -> ExitReason {
        ExitReason::Stopped
    }
}

/// Returns the name of an agent's node from the agent's description.
fn agent_of(body: &[u8]) -> Result<Box<str>, Box<str>> {
    let agent: serde_json::Value = json::parse(body)?;
    Ok(agent["Config"]["NodeName"].as_str().ok_or("the agent has no name")?.into())
}

/// Returns the reason why our entry is missing.
fn missing(node: &str, fid: Option<Fid>, there: &BTreeSet<Fid>) -> Box<str> {
    let Some(fid) = fid.filter(|_| !there.is_empty()) else {
        return alloc::format!(
            "Consul's catalog has no service hax on node {node} (--node) that hax may read"
        )
        .into();
    };
    let there: Vec<String> = there.iter().map(|fid| alloc::format!("{fid}")).collect();
    alloc::format!(
        "Consul's catalog has no service hax of the process {fid} (--fid) on node {node} (--node), but of {}",
        there.join(" and ")
    )
    .into()
}

#[cfg(test)]
mod tests;
