//! The JSON formats of services: for `catalog/`, for `health/`, for the agent's own, and for the posts of
//! watches.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::rows::{Check, Entry, Node, Service, Texts, Weights};

type Nothing = BTreeMap<(), ()>;

/// The proxy settings of a service. The double never fills them.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Proxy {
    mesh_gateway: Nothing,
    expose: Nothing,
}

/// A service in a response about its node or its health.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NodeService<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    service: &'a str,
    tags: &'a [String],
    address: &'a str,
    meta: &'a Texts,
    port: u32,
    weights: Weights,
    enable_tag_override: bool,
    proxy: Proxy,
    connect: Nothing,
    create_index: u64,
    modify_index: u64,
}

impl<'a> From<&'a Service> for NodeService<'a> {
    fn from(service: &'a Service) -> Self {
        Self {
            id: &service.id,
            service: &service.name,
            tags: &service.tags,
            address: &service.address,
            meta: &service.meta,
            port: service.port,
            weights: service.weights,
            enable_tag_override: service.enable_tag_override,
            proxy: Proxy::default(),
            connect: Nothing::new(),
            create_index: service.create_index,
            modify_index: service.modify_index,
        }
    }
}

/// A service in a response of `catalog/service/`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CatalogService<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    node: &'a str,
    address: &'a str,
    datacenter: &'a str,
    tagged_addresses: &'a Texts,
    node_meta: &'a Texts,
    service_kind: &'a str,
    #[serde(rename = "ServiceID")]
    service_id: &'a str,
    service_name: &'a str,
    service_tags: &'a [String],
    service_address: &'a str,
    service_weights: Weights,
    service_meta: BTreeMap<String, String>,
    service_port: u32,
    service_enable_tag_override: bool,
    service_proxy: Proxy,
    service_connect: Nothing,
    create_index: u64,
    modify_index: u64,
}

impl<'a> CatalogService<'a> {
    pub(super) fn new(node: &'a Node, service: &'a Service) -> Self {
        Self {
            id: &node.id,
            node: &node.name,
            address: &node.address,
            datacenter: node.datacenter,
            tagged_addresses: &node.tagged_addresses,
            node_meta: &node.meta,
            service_kind: "",
            service_id: &service.id,
            service_name: &service.name,
            service_tags: &service.tags,
            service_address: &service.address,
            service_weights: service.weights,
            service_meta: service.meta.clone().unwrap_or_default(),
            service_port: service.port,
            service_enable_tag_override: service.enable_tag_override,
            service_proxy: Proxy::default(),
            service_connect: Nothing::new(),
            create_index: service.create_index,
            modify_index: service.modify_index,
        }
    }
}

/// The response of `catalog/node/`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NodeAnswer<'a> {
    pub(super) node: &'a Node,
    pub(super) services: BTreeMap<&'a str, NodeService<'a>>,
}

/// A service with its node and its checks, as in a response of `health/service/`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Health<'a> {
    pub(super) node: &'a Node,
    pub(super) service: NodeService<'a>,
    pub(super) checks: Vec<&'a Check>,
}

/// A service in the agent's response about its own services.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AgentService<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    service: &'a str,
    tags: &'a [String],
    meta: BTreeMap<String, String>,
    port: u32,
    address: &'a str,
    weights: Weights,
    enable_tag_override: bool,
}

impl<'a> From<&'a Service> for AgentService<'a> {
    fn from(service: &'a Service) -> Self {
        Self {
            id: &service.id,
            service: &service.name,
            tags: &service.tags,
            meta: service.meta.clone().unwrap_or_default(),
            port: service.port,
            address: &service.address,
            weights: service.weights,
            enable_tag_override: service.enable_tag_override,
        }
    }
}

/// An instance in the post of a service watch.
///
/// It is the response of `health/service/` after a passage through the client library, which orders fields
/// differently and writes empty fields out.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WatchedHealth<'a> {
    node: &'a Node,
    service: WatchedService<'a>,
    checks: Vec<WatchedCheck<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WatchedService<'a> {
    #[serde(flatten)]
    service: AgentServiceOrder<'a>,
    create_index: u64,
    modify_index: u64,
    proxy: Proxy,
    connect: Nothing,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AgentServiceOrder<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    service: &'a str,
    tags: &'a [String],
    meta: &'a Texts,
    port: u32,
    address: &'a str,
    weights: Weights,
    enable_tag_override: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WatchedCheck<'a> {
    node: &'a str,
    #[serde(rename = "CheckID")]
    id: &'a str,
    name: &'a str,
    status: &'a str,
    notes: &'a str,
    output: &'a str,
    #[serde(rename = "ServiceID")]
    service_id: &'a str,
    service_name: &'a str,
    service_tags: &'a [String],
    #[serde(rename = "Type")]
    kind: &'a str,
    definition: WatchedDefinition,
    create_index: u64,
    modify_index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WatchedDefinition {
    interval: &'static str,
    timeout: &'static str,
    deregister_critical_service_after: &'static str,
    #[serde(rename = "HTTP")]
    http: &'static str,
    header: Option<()>,
    method: &'static str,
    body: &'static str,
    #[serde(rename = "TLSSkipVerify")]
    tls_skip_verify: bool,
    #[serde(rename = "TCP")]
    tcp: &'static str,
}

const NO_DEFINITION: WatchedDefinition = WatchedDefinition {
    interval: "0s",
    timeout: "0s",
    deregister_critical_service_after: "0s",
    http: "",
    header: None,
    method: "",
    body: "",
    tls_skip_verify: false,
    tcp: "",
};

impl<'a> WatchedHealth<'a> {
    pub(super) fn new(node: &'a Node, service: &'a Service, checks: &[&'a Check]) -> Self {
        let service = WatchedService {
            service: AgentServiceOrder {
                id: &service.id,
                service: &service.name,
                tags: &service.tags,
                meta: &service.meta,
                port: service.port,
                address: &service.address,
                weights: service.weights,
                enable_tag_override: service.enable_tag_override,
            },
            create_index: service.create_index,
            modify_index: service.modify_index,
            proxy: Proxy::default(),
            connect: Nothing::new(),
        };
        Self {
            node,
            service,
            checks: checks.iter().map(|check| WatchedCheck::from(*check)).collect(),
        }
    }
}

impl<'a> From<&'a Check> for WatchedCheck<'a> {
    fn from(check: &'a Check) -> Self {
        Self {
            node: &check.node,
            id: &check.id,
            name: &check.name,
            status: &check.status,
            notes: &check.notes,
            output: &check.output,
            service_id: &check.service_id,
            service_name: &check.service_name,
            service_tags: &check.service_tags,
            kind: check.kind,
            definition: NO_DEFINITION,
            create_index: check.create_index,
            modify_index: check.modify_index,
        }
    }
}

/// A key in the post of a watch of keys.
pub(super) struct WatchedEntry<'a>(pub(super) &'a Entry);

impl Serialize for WatchedEntry<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        use serde::ser::SerializeStruct as _;
        let entry = self.0;
        let value =
            entry.value.as_ref().map(|v| base64::engine::general_purpose::STANDARD.encode(v));
        let mut fields = s.serialize_struct("KVPair", 7)?;
        fields.serialize_field("Key", &entry.key)?;
        fields.serialize_field("CreateIndex", &entry.create_index)?;
        fields.serialize_field("ModifyIndex", &entry.modify_index)?;
        fields.serialize_field("LockIndex", &entry.lock_index)?;
        fields.serialize_field("Flags", &entry.flags)?;
        fields.serialize_field("Value", &value)?;
        fields.serialize_field("Session", &entry.session)?;
        fields.end()
    }
}
