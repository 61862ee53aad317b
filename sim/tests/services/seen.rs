//! What is seen of the nodes, and what operators ask them.

use std::time::Duration;

use hax_core::base::id::HttpId;
use hax_core::http::port::{Request, Trust};
use hax_core::keeper::name::InstanceId;
use hax_core::machine::Input;
use hax_core::services::Services;
use hax_core::services::facts::ServicesFact;
use hax_sim::consul;
use serde_json::{Value, json};

use super::field::{Field, Node};

impl Field {
    // ---- observations -----------------------------------------------------------------------------

    pub(crate) fn is_up(&self, nth: usize) -> bool {
        self.nodes[nth].services.is_some()
    }

    /// Returns whether a node has compared its records with its keeper.
    pub(crate) fn is_ready(&self, nth: usize) -> bool {
        self.saw(nth, "Manages") > 0
    }

    /// Returns the node with the coordinator.
    pub(crate) fn coordinator(&self) -> Option<usize> {
        let leads = |node: &Node| node.services.as_ref().is_some_and(Services::coordinates);
        self.nodes.iter().position(leads)
    }

    /// Returns how often a node has reported a fact.
    pub(crate) fn saw(&self, nth: usize, kind: &str) -> usize {
        let is_kind = |said: &ServicesFact| match said {
            ServicesFact::Node(fact) => fact.kind().name() == kind,
            ServicesFact::Coord(fact) => fact.kind().name() == kind,
        };
        self.nodes[nth].facts.iter().filter(|(_, said)| is_kind(said)).count()
    }

    /// Returns how often any node has reported a fact.
    pub(crate) fn all_saw(&self, kind: &str) -> usize {
        (0..self.nodes.len()).map(|nth| self.saw(nth, kind)).sum()
    }

    /// Returns a record in Consul.
    pub(crate) fn record(&self, key: &str) -> Option<Value> {
        serde_json::from_slice(self.consul.entry(key)?.value).ok()
    }

    pub(crate) fn observed(&self, nth: usize, kind: &str) -> Option<Value> {
        self.record(&format!("ha/inst/{}/{kind}/observed", self.nodes[nth].name))
    }

    pub(crate) fn wanted(&self, nth: usize, kind: &str) -> Option<Value> {
        self.record(&format!("ha/inst/{}/{kind}/wanted", self.nodes[nth].name))
    }

    pub(crate) fn job(&self, nth: usize, kind: &str) -> Option<Value> {
        self.record(&format!("ha/job/{}/{kind}", self.nodes[nth].name))
    }

    /// Returns the state of an instance in Consul.
    pub(crate) fn state(&self, nth: usize, kind: &str) -> String {
        let observed = self.observed(nth, kind);
        observed.map_or_else(|| "none".into(), |of| of["state"].as_str().unwrap().to_owned())
    }

    /// Returns the living instance of a type.
    pub(crate) fn living(&self, nth: usize, kind: &str) -> Option<InstanceId> {
        let of = |id: &&InstanceId| id.as_str().starts_with(&format!("{kind}."));
        self.nodes[nth].keeper.living.keys().find(of).cloned()
    }

    /// Returns the number of starts of a type's instances.
    pub(crate) fn starts(&self, nth: usize, kind: &str) -> usize {
        let starts = self.nodes[nth].keeper.starts.iter();
        let of = format!("{kind}.");
        starts.filter(|(_, start)| start.instance.as_str().starts_with(&of)).count()
    }

    pub(crate) fn events(&self) -> usize {
        self.consul.entries("ha/ev/").count()
    }

    /// Waits until an instance is in a state.
    pub(crate) fn until_state(&mut self, nth: usize, kind: &str, state: &str) -> Duration {
        self.until(60_000, |field| field.state(nth, kind) == state)
    }

    // ---- operators --------------------------------------------------------------------------------

    /// Writes a type and its event, as `hax service define` does.
    pub(crate) fn define(&mut self, record: &Value) {
        let mut record = record.clone();
        record["v"] = 1.into();
        let kind = record["type"].as_str().unwrap().to_owned();
        self.put(&format!("ha/type/{kind}"), &record);
        self.event(json!({ "defined": { "record": record, "stored": {} } }));
    }

    /// Writes the event of a request.
    pub(crate) fn ask(&mut self, verb: &str, kind: &str, node: Option<usize>) {
        let node = node.map(|nth| self.nodes[nth].name.clone());
        self.event(json!({ "asked": { "verb": verb, "type": kind, "node": node, "by": "test" } }));
    }

    pub(crate) fn event(&mut self, what: Value) {
        self.requests += 1;
        let key = format!("ha/ev/n1/0-{:08}", self.requests);
        self.put(&key, &json!({ "v": 1, "node": "n1", "at": "now", "what": what }));
    }

    pub(crate) fn put(&mut self, key: &str, value: &Value) {
        self.tell_consul("PUT", &format!("/v1/kv/{key}"), &value.to_string());
    }

    /// Sends a request of another writer to Consul.
    pub(crate) fn tell_consul(&mut self, method: &str, target: &str, body: &str) {
        self.requests += 1;
        let request = consul::Request::new(self.requests, method, target, body.to_owned());
        self.at_consul(|consul, now, out| consul.handle(now, request, out));
    }

    /// Sends an HTTP request to hax on a node.
    pub(crate) fn http(&mut self, nth: usize, method: &str, target: &str, body: &str) -> u64 {
        self.http_of(nth, method, target, body, Trust::Authorized)
    }

    pub(crate) fn http_of(
        &mut self,
        nth: usize,
        method: &str,
        target: &str,
        body: &str,
        trust: Trust,
    ) -> u64 {
        let node = &mut self.nodes[nth];
        node.clients += 1;
        let id = node.clients;
        let (method, target, body) = (method.into(), target.into(), body.to_owned().into());
        let request = Request { id: HttpId(id), method, target, body, trust };
        self.hand(nth, Input::Http(Box::new(request)));
        id
    }

    /// Sends a request and waits for the response. Returns its status and its JSON.
    pub(crate) fn call(
        &mut self,
        nth: usize,
        method: &str,
        target: &str,
        body: &str,
    ) -> (u16, Value) {
        let id = self.http(nth, method, target, body);
        self.until(120_000, |field| field.nodes[nth].responses.contains_key(&id));
        let response = &self.nodes[nth].responses[&id];
        (response.status, serde_json::from_slice(&response.body).unwrap_or(Value::Null))
    }
}

/// Returns a type with these fields besides the required ones.
pub(crate) fn kind(name: &str, more: &Value) -> Value {
    let mut record = json!({ "type": name, "command": [format!("/usr/lib/hax/services/{name}")] });
    for (field, value) in more.as_object().unwrap() {
        record[field] = value.clone();
    }
    record
}

/// Returns nodes with one type that runs on all of them.
pub(crate) fn with_web(count: usize, more: &Value) -> Field {
    let mut field = Field::new(count);
    field.define(&kind("web", more));
    field.ask("start", "web", None);
    for nth in 0..count {
        field.until_state(nth, "web", "running");
    }
    field.until(10_000, |field| field.events() == 0);
    field
}
