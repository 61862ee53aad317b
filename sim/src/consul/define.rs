//! The request bodies that define services and checks at an agent.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::http::duration;
use super::rows::{Service, Texts, Weights};

/// The body of `agent/service/register`. The double accepts some of the fields without effect.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub(super) struct ServiceDefinition {
    #[serde(rename = "ID")]
    id: String,
    pub(super) name: String,
    tags: Option<Vec<String>>,
    address: String,
    meta: Texts,
    port: u32,
    weights: Option<Weights>,
    enable_tag_override: bool,
    check: Option<CheckDefinition>,
    checks: Option<Vec<CheckDefinition>>,
    kind: String,
    token: String,
    tagged_addresses: Option<Value>,
    proxy: Option<Value>,
    connect: Option<Value>,
}

/// A check in a service's definition, or the body of `agent/check/register`. The double accepts some of the
/// fields without effect.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub(super) struct CheckDefinition {
    #[serde(rename = "CheckID", alias = "ID")]
    pub(super) id: String,
    pub(super) name: String,
    #[serde(rename = "ServiceID")]
    pub(super) service_id: String,
    pub(super) status: String,
    pub(super) notes: String,
    #[serde(rename = "TTL", deserialize_with = "text_duration")]
    ttl: Duration,
    #[serde(deserialize_with = "text_duration")]
    interval: Duration,
    #[serde(alias = "ScriptArgs")]
    args: Option<Vec<String>>,
    #[serde(rename = "HTTP")]
    http: String,
    #[serde(rename = "TCP")]
    tcp: String,
    timeout: String,
    method: String,
    header: Option<Value>,
    body: String,
    #[serde(rename = "TLSSkipVerify")]
    tls_skip_verify: bool,
    deregister_critical_service_after: String,
    output_max_size: u32,
    success_before_passing: u32,
    failures_before_critical: u32,
    token: String,
}

fn text_duration<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Nanoseconds(u64),
    }
    match Form::deserialize(d)? {
        Form::Text(text) => duration(&text).map_err(serde::de::Error::custom),
        Form::Nanoseconds(n) => Ok(Duration::from_nanos(n)),
    }
}

/// The source of a check's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A client, which has to update the status within this time.
    Ttl(Duration),
    /// The agent, by running a check of this type. In the double the host sets the result.
    Agent(&'static str),
}

impl Source {
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Ttl(_) => "ttl",
            Self::Agent(kind) => kind,
        }
    }
}

impl CheckDefinition {
    /// Returns the source of the check's status, or the reason why the definition is invalid.
    pub(super) fn source(&self) -> Result<Source, String> {
        let run = match () {
            () if self.args.is_some() => Some("script"),
            () if !self.http.is_empty() => Some("http"),
            () if !self.tcp.is_empty() => Some("tcp"),
            () => None,
        };
        match run {
            Some(kind) if !self.interval.is_zero() => Ok(Source::Agent(kind)),
            Some(_) => Err("Interval must be > 0 for Script, HTTP, or TCP checks".to_owned()),
            None if !self.ttl.is_zero() => Ok(Source::Ttl(self.ttl)),
            None => Err("TTL must be > 0 for TTL checks".to_owned()),
        }
    }
}

impl ServiceDefinition {
    /// Returns the service, without indexes.
    pub(super) fn service(&self) -> Service {
        Service {
            id: if self.id.is_empty() { self.name.clone() } else { self.id.clone() },
            name: self.name.clone(),
            tags: self.tags.clone().unwrap_or_default(),
            address: self.address.clone(),
            // An empty table and none are the same. The catalog shows both as none.
            meta: self.meta.clone().filter(|meta| !meta.is_empty()),
            port: self.port,
            weights: self.weights.unwrap_or_default(),
            enable_tag_override: self.enable_tag_override,
            ..Service::default()
        }
    }

    /// Returns the checks of the service, with their default ids and names.
    pub(super) fn into_checks(self) -> Vec<CheckDefinition> {
        let service = self.service();
        let checks = self.checks.into_iter().flatten().chain(self.check);
        let mut checks: Vec<CheckDefinition> = checks.collect();
        let several = checks.len() > 1;
        for (i, check) in checks.iter_mut().enumerate() {
            if check.id.is_empty() {
                check.id = format!("service:{}", service.id);
                if several {
                    check.id += &format!(":{}", i + 1);
                }
            }
            if check.name.is_empty() {
                check.name = format!("Service '{}' check", service.name);
            }
            check.service_id.clone_from(&service.id);
        }
        checks
    }
}
