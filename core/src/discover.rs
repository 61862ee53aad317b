//! Who we are: what a drop-in finds out from Consul before it can listen.
//!
//! The service `hax` of our node names our process (its id), our endpoint (address and port) and
//! our HTTP port (`http_port` of its meta); the key `ssl/hax` says whether HTTP is served by TLS
//! (`hax.md` 1.1). Whatever is given is not asked for. Where Motr's library is used it wants to know the
//! services of our process too: `m0conf/nodes/<node>/processes/<key>/services/<type>`.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use crate::base::fact::Fact;
use crate::base::fid::Fid;
use crate::base::id::CallId;
use crate::base::retry::{Backoff, Jitter};
use crate::base::time::{Instant, Next, Now};
use crate::bridge::ops::encode;
use crate::consul::json::{self, Elements, Instance, KvEntry};
use crate::consul::port::{Answer, Call, Command, Method, Reply};
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
    /// Whether the key `ssl/hax` counts.
    pub ask_tls: bool,
    /// Whether the services of our process are wanted.
    pub ask_services: bool,
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
    /// With what it is served by TLS, if it is.
    pub http_tls: Option<TlsFiles>,
    /// The services of our process, if they are wanted.
    pub services: Option<Services>,
}

/// The services of our process that Motr's library is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Services {
    /// Of the type `ha`.
    pub ha: Fid,
    /// The resource manager: of the type `rms`.
    pub rm: Fid,
}

/// The value of `ssl/hax`, as far as it counts: paths on our machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate's.
    pub cert: Box<str>,
    /// Its key's.
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

/// What Consul is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// What the local agent's node is called.
    Node,
    /// What our entry says.
    Entry,
    /// Whether HTTP is served by TLS.
    Tls,
    /// Which services our process has.
    Services,
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
    call: Option<(CallId, Question)>,
    retry_at: Option<Instant>,
    tls_known: bool,
    http_tls: Option<TlsFiles>,
    services: Option<Services>,
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
            tls_known: false,
            http_tls: None,
            services: None,
            found: None,
            stopped: false,
        }
    }

    /// Takes one input. `Exit` when all is found, or at a stop.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) -> Next {
        match input {
            Input::Stop => self.stopped = true,
            Input::Consul(reply) => self.answered(now, reply, out),
            Input::Tick | Input::Net(_) | Input::Spiel(_) | Input::Http(_) => {}
        }
        self.go_on(now, out)
    }

    fn answered(&mut self, now: Now, reply: Reply, out: &mut Vec<Output>) {
        let Some((_, question)) = self.call.take_if(|(id, _)| *id == reply.id) else { return };
        let taken = match (reply.result, question) {
            (Err(unanswered), _) => Err(unanswered.why().into()),
            (Ok(Answer { status: 200, body, .. }), Question::Node) => self.take_node(&body),
            (Ok(Answer { status: 200, body, .. }), Question::Entry) => self.take_entry(body),
            (Ok(Answer { status: 200, body, .. }), Question::Tls) => {
                self.take_tls(&body, out);
                Ok(())
            }
            (Ok(Answer { status: 404, .. }), Question::Tls) => {
                self.tls_known = true;
                Ok(())
            }
            (Ok(Answer { status: 200, body, .. }), Question::Services) => self.take_services(body),
            (Ok(Answer { status: 404, .. }), Question::Services) => {
                self.take_services(Bytes::from_static(b"[]"))
            }
            (Ok(Answer { status, body, .. }), _) => {
                let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
                Err(alloc::format!("Consul says {status}: {}", text.trim()).into())
            }
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
            let (question, target) = match &self.config.node {
                None => (Question::Node, "/v1/agent/self".into()),
                Some(_) if !self.is_known() => (Question::Entry, "/v1/catalog/service/hax".into()),
                Some(_) if self.config.ask_tls && !self.tls_known => {
                    (Question::Tls, "/v1/kv/ssl/hax?raw".into())
                }
                Some(_) => {
                    let prefix = self.services_prefix(encode);
                    (Question::Services, alloc::format!("/v1/kv/{prefix}?recurse"))
                }
            };
            let id = self.next_call.mint();
            self.call = Some((id, question));
            let body = Bytes::new();
            let call =
                Call { id, method: Method::Get, target, body, within: WITHIN, body_max: 1 << 22 };
            out.push(Output::Consul(Command::Call(Box::new(call))));
        }
        Next::Wait
    }

    /// Whether all but TLS and services is known, given or found.
    fn is_known(&self) -> bool {
        let Config { node, fid, motr_endpoint, http, .. } = &self.config;
        node.is_some() && fid.is_some() && motr_endpoint.is_some() && http.is_some()
    }

    /// Whether everything is known.
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
        let agent: serde_json::Value = json::parse(body)?;
        let name = agent["Config"]["NodeName"].as_str().ok_or("the agent has no name")?;
        self.config.node = Some(host_of(name).into());
        Ok(())
    }

    /// A value that cannot be read counts as none, as with the old daemon.
    fn take_tls(&mut self, body: &[u8], out: &mut Vec<Output>) {
        self.tls_known = true;
        match json::parse::<Ssl>(body) {
            Ok(Ssl { http_protocol, cert_path: cert, key_path: key }) => {
                if &*http_protocol == "https" {
                    self.http_tls = Some(TlsFiles { cert, key });
                }
            }
            Err(_) => out.push(Output::Fact(Fact::EntrySkipped { key: "ssl/hax".into() })),
        }
    }

    fn take_entry(&mut self, body: Bytes) -> Result<(), Box<str>> {
        let Some(node) = &self.config.node else { return Ok(()) };
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
            return Err(alloc::format!(
                "Consul's catalog has no service hax on node {node} (--node) that hax may read"
            )
            .into());
        };
        self.config.fid.get_or_insert(fid);
        self.config.motr_endpoint.get_or_insert(endpoint);
        self.config.http.get_or_insert(http);
        Ok(())
    }

    /// Where hare numbers the services of our process; the node's name as `name` writes it.
    fn services_prefix(&self, name: impl Fn(&str) -> String) -> String {
        let node = name(self.config.node.as_deref().unwrap_or_default());
        let key = self.config.fid.map_or(0, |fid| fid.key);
        alloc::format!("m0conf/nodes/{node}/processes/{key}/services/")
    }

    fn take_services(&mut self, body: Bytes) -> Result<(), Box<str>> {
        let prefix = self.services_prefix(|node| node.into());
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

    /// Who we are.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if a stop came first.
    pub fn into_result(self) -> Result<Identity, Stopped> {
        self.found.ok_or(Stopped)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    const ENTRY: &str = r#"[{"Node": "ssu1:1", "Address": "10.0.0.1", "ServiceID": "4",
        "ServiceAddress": "inet:stream:10.0.0.1", "ServicePort": 22001,
        "ServiceMeta": {"http_port": "8009"}, "ModifyIndex": 7}]"#;

    /// Asks until all is known, with an answer for each target; what it was and what was asked.
    fn ask(
        config: Config,
        answer: impl Fn(&str) -> (u16, &'static str),
    ) -> (Identity, Vec<String>) {
        let mut discovery = Discovery::new(config);
        let (mut asked, mut input) = (vec![], Input::Tick);
        loop {
            let mut out = vec![];
            if discovery.handle(Now::default(), input, &mut out) == Next::Exit {
                return (discovery.into_result().unwrap(), asked);
            }
            let call = out.into_iter().find_map(|output| match output {
                Output::Consul(Command::Call(call)) => Some(call),
                _ => None,
            });
            let Call { id, target, .. } = *call.unwrap();
            let (status, body) = answer(&target);
            asked.push(target);
            let body = Bytes::from_static(body.as_bytes());
            input = Input::Consul(Reply { id, result: Ok(Answer { status, index: 1, body }) });
        }
    }

    fn tls(status: u16, value: &'static str) -> Option<TlsFiles> {
        let config = Config { node: Some("ssu1".into()), ask_tls: true, ..Config::default() };
        let (found, asked) = ask(config, |target| match target {
            "/v1/catalog/service/hax" => (200, ENTRY),
            _ => (status, value),
        });
        assert_eq!(asked, ["/v1/catalog/service/hax", "/v1/kv/ssl/hax?raw"]);
        assert_eq!((&*found.http_host, found.http_port), ("10.0.0.1", 8009));
        found.http_tls
    }

    #[test]
    fn the_key_says_whether_http_is_served_by_tls() {
        let https = r#"{"http_protocol": "https", "cert_path": "/c", "key_path": "/k"}"#;
        let files = TlsFiles { cert: "/c".into(), key: "/k".into() };
        assert_eq!(tls(200, https), Some(files));
        assert_eq!(tls(200, r#"{"http_protocol": "http"}"#), None);
        assert_eq!(tls(404, ""), None);
        assert_eq!(tls(200, "nonsense"), None);
    }

    /// Asks for services; what is found, and what was wrong on the way.
    fn services(answers: &[&'static str]) -> (Option<Services>, Vec<Box<str>>) {
        let config = Config {
            node: Some("ssu1".into()),
            fid: Some(Fid::process(5)),
            motr_endpoint: Some("inet:tcp:10.0.0.1@22001".into()),
            http: Some(("h".into(), 1)),
            ask_services: true,
            ..Config::default()
        };
        let mut discovery = Discovery::new(config);
        let (mut wrong, mut input, mut now) = (vec![], Input::Tick, Now::default());
        let mut answers = answers.iter();
        loop {
            let mut out = vec![];
            match discovery.handle(now, input, &mut out) {
                Next::Exit => return (discovery.into_result().unwrap().services, wrong),
                Next::WaitUntil { at, .. } => now.mono = at,
                Next::Wait => {}
            }
            input = Input::Tick;
            for output in out {
                match output {
                    Output::Consul(Command::Call(call)) => {
                        assert_eq!(
                            call.target,
                            "/v1/kv/m0conf/nodes/ssu1/processes/5/services/?recurse"
                        );
                        let body = *answers.next().unwrap();
                        let status = if body.is_empty() { 404 } else { 200 };
                        let body = Bytes::from_static(body.as_bytes());
                        let result = Ok(Answer { status, index: 1, body });
                        input = Input::Consul(Reply { id: call.id, result });
                    }
                    Output::Fact(Fact::ConsulFailed { why, .. }) => wrong.push(why),
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn services_have_the_numbers_that_hare_gave_them_and_are_waited_for() {
        const HA: &str = r#"[{"Key": "m0conf/nodes/ssu1/processes/5/services/ha", "Value": "MTI=",
            "ModifyIndex": 1}]"#;
        const BOTH: &str = r#"[{"Key": "m0conf/nodes/ssu1/processes/5/services/ha", "Value": "MTI=",
            "ModifyIndex": 1}, {"Key": "m0conf/nodes/ssu1/processes/5/services/rms",
            "Value": "MTc=", "ModifyIndex": 1}]"#;
        let found = Services { ha: Fid::service(12), rm: Fid::service(17) };
        assert_eq!(services(&[BOTH]), (Some(found), vec![]));
        let (late, wrong) = services(&["", HA, BOTH]);
        assert_eq!(late, Some(found));
        assert!(wrong[0].contains("m0conf/nodes/ssu1/processes/5/services/ha"), "{wrong:?}");
        assert!(wrong[0].contains("0x7200000000000001:0x5 hax's process (--fid)"), "{wrong:?}");
        assert!(wrong[1].contains("processes/5/services/rms"), "{wrong:?}");
    }

    #[test]
    fn what_is_given_is_not_asked_for() {
        let config = Config {
            node: Some("ssu1".into()),
            fid: Some(Fid::process(4)),
            motr_endpoint: Some("inet:stream:10.0.0.1@22001".into()),
            http: Some(("h".into(), 1)),
            ..Config::default()
        };
        let (found, asked) = ask(config, |_| unreachable!());
        assert_eq!((found.fid, asked.len()), (Fid::process(4), 0));
    }
}
