//! The catalog: nodes, their services, their checks, and the indexes that a change of each moves.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::http::{Answer, bad, decode, failed};
use super::rows::{Check, Node, Service, Texts, Weights};
use super::store::{Row, Store};
use super::{Consul, Write};

/// The body of `catalog/register`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub(super) struct Register {
    #[serde(rename = "ID")]
    pub(super) id: String,
    pub(super) node: String,
    pub(super) address: String,
    pub(super) datacenter: String,
    pub(super) tagged_addresses: Texts,
    pub(super) node_meta: Texts,
    pub(super) service: Option<RegisterService>,
    pub(super) check: Option<RegisterCheck>,
    pub(super) checks: Option<Vec<RegisterCheck>>,
    pub(super) skip_node_update: bool,
}

/// A service in a registration.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub(super) struct RegisterService {
    #[serde(rename = "ID")]
    pub(super) id: String,
    pub(super) service: String,
    pub(super) tags: Option<Vec<String>>,
    pub(super) address: String,
    pub(super) meta: Texts,
    pub(super) port: u32,
    pub(super) weights: Option<Weights>,
    pub(super) enable_tag_override: bool,
}

/// A check in a registration.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub(super) struct RegisterCheck {
    pub(super) node: String,
    #[serde(rename = "CheckID")]
    pub(super) id: String,
    pub(super) name: String,
    pub(super) status: String,
    pub(super) notes: String,
    pub(super) output: String,
    #[serde(rename = "ServiceID")]
    pub(super) service_id: String,
    pub(super) service_name: String,
    pub(super) service_tags: Option<Vec<String>>,
    #[serde(skip)]
    pub(super) kind: &'static str,
}

/// The body of `catalog/deregister`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
struct Deregister {
    node: String,
    #[serde(rename = "ServiceID")]
    service_id: String,
    #[serde(rename = "CheckID")]
    check_id: String,
    /// Accepted without effect: there is only one datacenter.
    datacenter: String,
}

impl Register {
    /// Checks the body and fills in defaults, as the catalog's endpoint does before the log sees the request.
    fn normalise(&mut self) -> Result<(), String> {
        if self.node.is_empty() {
            return Err("Must provide node".to_owned());
        }
        if self.address.is_empty() && !self.skip_node_update {
            return Err("Must provide address if SkipNodeUpdate is not set".to_owned());
        }
        if let Some(service) = &mut self.service {
            if service.id.is_empty() {
                service.id.clone_from(&service.service);
            }
            if !service.id.is_empty() && service.service.is_empty() {
                return Err("Must provide service name with ID".to_owned());
            }
        }
        let checks = self.checks.get_or_insert_default();
        checks.extend(self.check.take());
        for check in checks {
            if check.id.is_empty() {
                check.id.clone_from(&check.name);
            }
            if check.node.is_empty() {
                check.node.clone_from(&self.node);
            }
        }
        Ok(())
    }
}

impl Store {
    /// Registers a node, a service and checks together. If one of them is invalid, none is registered.
    pub(super) fn register(&mut self, ask: Register) -> Result<(), String> {
        let index = self.next_index();
        self.check_register(&ask)?;
        let node = ask.node.clone();
        let changes = self.nodes.get(&node).is_none_or(|old| {
            !ask.skip_node_update
                && (old.id != ask.id
                    || old.address != ask.address
                    || old.tagged_addresses != ask.tagged_addresses
                    || old.meta != ask.node_meta)
        });
        if changes {
            self.ensure_node(
                index,
                Node {
                    id: ask.id,
                    name: node.clone(),
                    address: ask.address,
                    datacenter: "dc1",
                    tagged_addresses: ask.tagged_addresses,
                    meta: ask.node_meta,
                    create_index: 0,
                    modify_index: 0,
                },
            );
        }
        if let Some(service) = ask.service {
            self.ensure_service(index, &node, service);
        }
        for check in ask.checks.into_iter().flatten() {
            self.ensure_check(index, check);
        }
        Ok(())
    }

    fn check_register(&self, ask: &Register) -> Result<(), String> {
        let own = ask.service.as_ref().map(|service| &service.id);
        for check in ask.checks.iter().flatten() {
            if check.node != ask.node {
                let (got, want) = (&check.node, &ask.node);
                return Err(format!("check node {got:?} does not match node {want:?}"));
            }
            let there = check.service_id.is_empty()
                || own == Some(&check.service_id)
                || self.services.contains_key(&(ask.node.clone(), check.service_id.clone()));
            if !there {
                return Err(format!(
                    "failed inserting check: Missing service registration on node {:?}",
                    ask.node
                ));
            }
        }
        Ok(())
    }

    fn ensure_node(&mut self, index: u64, mut node: Node) {
        node.create_index = self.nodes.get(&node.name).map_or(index, |old| old.create_index);
        node.modify_index = index;
        self.tables.nodes = index;
        // Responses about services contain their nodes.
        self.touch_services_of(index, &node.name);
        self.nodes.insert(node.name.clone(), node);
    }

    fn touch_services_of(&mut self, index: u64, node: &str) {
        let names: BTreeSet<String> =
            self.services_of(node).map(|service| service.name.clone()).collect();
        for name in names {
            self.service_index.insert(name, index);
        }
    }

    fn ensure_service(&mut self, index: u64, node: &str, ask: RegisterService) {
        let row: Row = (node.to_owned(), ask.id.clone());
        let old = self.services.get(&row);
        let mut service = Service {
            id: ask.id,
            name: ask.service,
            tags: ask.tags.unwrap_or_default(),
            address: ask.address,
            meta: ask.meta,
            port: ask.port,
            weights: ask.weights.unwrap_or_default(),
            enable_tag_override: ask.enable_tag_override,
            create_index: old.map_or(index, |old| old.create_index),
            modify_index: old.map_or(index, |old| old.modify_index),
        };
        if old == Some(&service) {
            return;
        }
        service.modify_index = index;
        self.tables.services = index;
        self.service_index.insert(service.name.clone(), index);
        self.services.insert(row, service);
    }

    fn ensure_check(&mut self, index: u64, ask: RegisterCheck) {
        let row: Row = (ask.node.clone(), ask.id.clone());
        let old = self.checks.get(&row);
        let service = self.services.get(&(ask.node.clone(), ask.service_id.clone()));
        let mut check = Check {
            node: ask.node,
            id: ask.id,
            name: ask.name,
            status: if ask.status.is_empty() { "critical".to_owned() } else { ask.status },
            notes: ask.notes,
            output: ask.output,
            service_name: service.map_or(ask.service_name, |service| service.name.clone()),
            service_tags: service
                .map_or_else(|| ask.service_tags.unwrap_or_default(), |s| s.tags.clone()),
            service_id: ask.service_id,
            kind: ask.kind,
            definition: BTreeMap::new(),
            create_index: old.map_or(index, |old| old.create_index),
            modify_index: old.map_or(index, |old| old.modify_index),
        };
        if old != Some(&check) {
            check.modify_index = index;
            if check.service_id.is_empty() {
                self.touch_services_of(index, &check.node);
            } else {
                self.service_index.insert(check.service_name.clone(), index);
            }
        }
        if check.status == "critical" {
            self.invalidate_sessions_of_check(index, &check.node, &check.id);
        }
        // The table's index moves even if the check has not changed.
        self.tables.checks = index;
        self.tables.check_rows = index;
        self.checks.insert(row, check);
    }

    pub(super) fn services_of<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Service> {
        let rows = self.services.range((node.to_owned(), String::new())..);
        rows.take_while(move |((name, _), _)| name == node).map(|(_, service)| service)
    }

    pub(super) fn checks_of<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Check> {
        let rows = self.checks.range((node.to_owned(), String::new())..);
        rows.take_while(move |((name, _), _)| name == node).map(|(_, check)| check)
    }

    pub(super) fn delete_node(&mut self, index: u64, node: &str) {
        if !self.nodes.contains_key(node) {
            return;
        }
        let services: Vec<String> = self.services_of(node).map(|s| s.id.clone()).collect();
        for id in services {
            self.delete_service(index, node, &id);
        }
        let checks: Vec<String> = self.checks_of(node).map(|check| check.id.clone()).collect();
        for id in checks {
            self.delete_check(index, node, &id);
        }
        self.nodes.remove(node);
        self.tables.nodes = index;
        self.invalidate_sessions_of_node(index, node);
    }

    pub(super) fn delete_service(&mut self, index: u64, node: &str, id: &str) {
        if !self.services.contains_key(&(node.to_owned(), id.to_owned())) {
            return;
        }
        let checks = self.checks_of(node).filter(|check| check.service_id == id);
        let checks: Vec<String> = checks.map(|check| check.id.clone()).collect();
        for check in checks {
            self.delete_check(index, node, &check);
        }
        // The index moves also where the service had no check, but then it wakes no blocking query.
        self.tables.checks = index;
        let service = self.services.remove(&(node.to_owned(), id.to_owned()));
        self.tables.services = index;
        let Some(name) = service.map(|service| service.name) else { return };
        if self.services.values().any(|service| service.name == name) {
            self.service_index.insert(name, index);
        } else {
            self.service_index.remove(&name);
            self.tables.extinction = index;
        }
    }

    pub(super) fn delete_check(&mut self, index: u64, node: &str, id: &str) {
        let Some(check) = self.checks.remove(&(node.to_owned(), id.to_owned())) else { return };
        if check.service_id.is_empty() {
            self.touch_services_of(index, node);
            self.tables.services = index;
        } else {
            self.service_index.insert(check.service_name, index);
        }
        self.tables.checks = index;
        self.tables.check_rows = index;
        self.invalidate_sessions_of_check(index, node, id);
    }

    /// Returns the index of a read of one service.
    ///
    /// A service with instances has its own index. For a service without instances it is the index of the
    /// last extinction of any service, or else the index of the tables that the read uses.
    pub(super) fn service_index(&self, name: &str, with_checks: bool) -> u64 {
        let exists = self.services.values().any(|service| service.name == name);
        if !exists && self.tables.extinction > 0 {
            return self.tables.extinction;
        }
        if let Some(index) = self.service_index.get(name) {
            return *index;
        }
        let tables = self.tables.nodes.max(self.tables.services);
        if with_checks { tables.max(self.tables.checks) } else { tables }
    }
}

impl Consul {
    /// Routes the writes of `/v1/catalog/`.
    pub(super) fn catalog_write(&mut self, write: &Write<'_>) -> Option<Answer> {
        let result = match write.target.path.as_str() {
            "/v1/catalog/register" => self.catalog_register(write.body),
            "/v1/catalog/deregister" => self.catalog_deregister(write.body),
            _ => return None,
        };
        Some(result.unwrap_or_else(|refusal| refusal))
    }

    fn catalog_register(&mut self, body: &[u8]) -> Result<Answer, Answer> {
        let mut ask: Register =
            decode(body).map_err(|e| bad(format!("Request decode failed: {e}")))?;
        if !matches!(ask.datacenter.as_str(), "" | "dc1") {
            return Err(failed("No path to datacenter"));
        }
        ask.normalise().map_err(failed)?;
        let node = ask.node.clone();
        self.store.register(ask).map_err(failed)?;
        self.on_catalog_write(&node);
        Ok(Answer::json(&true, self.pretty))
    }

    fn catalog_deregister(&mut self, body: &[u8]) -> Result<Answer, Answer> {
        let ask: Deregister =
            decode(body).map_err(|e| bad(format!("Request decode failed: {e}")))?;
        if ask.node.is_empty() {
            return Err(failed("Must provide node"));
        }
        let index = self.store.next_index();
        if !ask.service_id.is_empty() {
            self.store.delete_service(index, &ask.node, &ask.service_id);
        } else if !ask.check_id.is_empty() {
            self.store.delete_check(index, &ask.node, &ask.check_id);
        } else {
            self.store.delete_node(index, &ask.node);
        }
        self.on_catalog_write(&ask.node);
        Ok(Answer::json(&true, self.pretty))
    }
}
