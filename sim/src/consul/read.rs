//! The blocking reads: the data of each read, its index, and its response.

use std::collections::{BTreeMap, BTreeSet};

use super::http::{Answer, Target, bad, failed};
use super::rows::{Check, Node, Service};
use super::session::{id_in, well_formed};
use super::store::Store;
use super::view::{CatalogService, Health, NodeAnswer, NodeService};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Key { key: String, raw: bool },
    Tree { prefix: String },
    Keys { prefix: String, separator: String },
    SessionInfo { id: String },
    SessionList,
    SessionNode { node: String },
    Nodes,
    Node { node: String },
    Services,
    Service { name: String, tag: Option<String> },
    HealthNode { node: String },
    HealthChecks { service: String },
    HealthService { name: String, tag: Option<String>, passing: bool },
    HealthState { state: String },
}

impl Read {
    /// Parses the path of a `GET`. Returns `None` if it is not the path of a blocking read.
    pub(super) fn parse(target: &Target) -> Option<Result<Self, Answer>> {
        let rest = target.path.strip_prefix("/v1/")?;
        let (group, rest) = rest.split_once('/')?;
        match group {
            "kv" => Some(Self::kv(target, rest)),
            "session" => Self::session(target, rest),
            "catalog" => Self::catalog(target, rest),
            "health" => Self::health(target, rest),
            _ => None,
        }
    }

    fn kv(target: &Target, key: &str) -> Result<Self, Answer> {
        if target.has("keys") {
            let separator = target.text("separator").to_owned();
            return Ok(Self::Keys { prefix: key.to_owned(), separator });
        }
        if target.has("recurse") {
            return Ok(Self::Tree { prefix: key.to_owned() });
        }
        if key.is_empty() {
            return Err(bad("Missing key name"));
        }
        Ok(Self::Key { key: key.to_owned(), raw: target.has("raw") })
    }

    fn session(target: &Target, rest: &str) -> Option<Result<Self, Answer>> {
        let prefixed = |prefix, missing| id_in(target, prefix, missing);
        Some(match rest.split_once('/').map_or(rest, |(verb, _)| verb) {
            "list" => Ok(Self::SessionList),
            "node" => prefixed("/v1/session/node/", "Missing node name")
                .map(|node| Self::SessionNode { node }),
            "info" => prefixed("/v1/session/info/", "Missing session").and_then(|id| {
                well_formed(&id).map_err(|e| {
                    failed(e)
                        .with("X-Consul-Index", "1")
                        .with("X-Consul-Knownleader", "false")
                        .with("X-Consul-Lastcontact", "0")
                })?;
                Ok(Self::SessionInfo { id })
            }),
            _ => return None,
        })
    }

    fn catalog(target: &Target, rest: &str) -> Option<Result<Self, Answer>> {
        let prefixed = |prefix, missing| id_in(target, prefix, missing);
        Some(match rest.split_once('/') {
            None if rest == "nodes" => Ok(Self::Nodes),
            None if rest == "services" => Ok(Self::Services),
            Some(("node", _)) => {
                prefixed("/v1/catalog/node/", "Missing node name").map(|node| Self::Node { node })
            }
            Some(("service", _)) => prefixed("/v1/catalog/service/", "Missing service name")
                .map(|name| Self::Service { name, tag: target.get("tag").map(str::to_owned) }),
            _ => return None,
        })
    }

    fn health(target: &Target, rest: &str) -> Option<Result<Self, Answer>> {
        let prefixed = |prefix, missing| id_in(target, prefix, missing);
        Some(match rest.split_once('/')?.0 {
            "node" => prefixed("/v1/health/node/", "Missing node name")
                .map(|node| Self::HealthNode { node }),
            "checks" => prefixed("/v1/health/checks/", "Missing service name")
                .map(|service| Self::HealthChecks { service }),
            "state" => prefixed("/v1/health/state/", "Missing check state")
                .map(|state| Self::HealthState { state }),
            "service" => prefixed("/v1/health/service/", "Missing service name").and_then(|name| {
                let passing = match target.get("passing") {
                    None | Some("0" | "f" | "F" | "false" | "False" | "FALSE") => false,
                    Some("" | "1" | "t" | "T" | "true" | "True" | "TRUE") => true,
                    Some(_) => return Err(bad("Invalid value for ?passing")),
                };
                Ok(Self::HealthService { name, tag: target.get("tag").map(str::to_owned), passing })
            }),
            _ => return None,
        })
    }

    /// Returns whether the response has a header with its consistency mode.
    pub(super) fn tells_consistency(&self) -> bool {
        !matches!(
            self,
            Self::Key { .. }
                | Self::Tree { .. }
                | Self::Keys { .. }
                | Self::SessionInfo { .. }
                | Self::SessionList
                | Self::SessionNode { .. }
        )
    }

    /// Returns the present index of the response. It is at least one.
    pub(super) fn index(&self, store: &Store) -> u64 {
        let tables = &store.tables;
        let index = match self {
            Self::Key { key, .. } => store.key_index(key),
            Self::Tree { prefix } | Self::Keys { prefix, .. } => store.prefix_index(prefix),
            Self::SessionInfo { .. } | Self::SessionList | Self::SessionNode { .. } => {
                tables.sessions
            }
            Self::Nodes => tables.nodes,
            Self::Node { node } if store.nodes.contains_key(node) => {
                tables.nodes.max(tables.services)
            }
            Self::Node { .. } => 0,
            Self::Services => tables.services,
            Self::Service { name, .. } => store.service_index(name, false),
            Self::HealthService { name, .. } => store.service_index(name, true),
            Self::HealthNode { .. } | Self::HealthChecks { .. } | Self::HealthState { .. } => {
                tables.checks
            }
        };
        index.max(1)
    }

    /// Returns whether any data of the read was touched after `since`. Otherwise Consul does not check its
    /// index.
    ///
    /// A read of a service in the catalog does not include its checks, but they move its index.
    pub(super) fn touched(&self, store: &Store, since: u64) -> bool {
        match self {
            Self::Service { .. } => store.tables.nodes.max(store.tables.services) > since,
            Self::HealthNode { .. } | Self::HealthChecks { .. } | Self::HealthState { .. } => {
                store.tables.check_rows > since
            }
            _ => store.index > since,
        }
    }

    /// Builds the present response, without the headers that all such responses share.
    pub(super) fn answer(&self, store: &Store, pretty: bool) -> Answer {
        match self {
            Self::Key { key, raw } => match store.kv.get(key) {
                None => Answer::empty(404),
                Some(entry) if *raw => Answer {
                    body: entry.value.clone().unwrap_or_default(),
                    ..Answer::empty(200)
                        .with("Content-Type", "text/plain")
                        .with("Content-Security-Policy", "sandbox")
                        .with("X-Content-Type-Options", "nosniff")
                },
                Some(entry) => Answer::json(&[entry], pretty),
            },
            Self::Tree { prefix } => {
                let entries: Vec<_> = store.below(prefix).collect();
                if entries.is_empty() { Answer::empty(404) } else { Answer::json(&entries, pretty) }
            }
            Self::Keys { prefix, separator } => {
                let keys = keys(store, prefix, separator);
                if keys.is_empty() && !prefix.is_empty() {
                    return Answer::empty(404);
                }
                Answer::json(&keys, pretty)
            }
            Self::SessionInfo { id } => {
                Answer::json(&store.sessions.get(id).into_iter().collect::<Vec<_>>(), pretty)
            }
            Self::SessionList => Answer::json(&store.sessions.values().collect::<Vec<_>>(), pretty),
            Self::SessionNode { node } => {
                let sessions = store.sessions.values().filter(|session| session.node == *node);
                Answer::json(&sessions.collect::<Vec<_>>(), pretty)
            }
            _ => self.catalog_answer(store, pretty),
        }
    }

    fn catalog_answer(&self, store: &Store, pretty: bool) -> Answer {
        let checks = |wanted: &dyn Fn(&Check) -> bool| {
            let found = store.checks.values().filter(|check| wanted(check));
            Answer::json(&found.collect::<Vec<_>>(), pretty)
        };
        match self {
            Self::Nodes => Answer::json(&store.nodes.values().collect::<Vec<_>>(), pretty),
            Self::Node { node } => Answer::json(&node_answer(store, node), pretty),
            Self::Services => Answer::json(&services(store), pretty),
            Self::Service { name, tag } => {
                let found = instances(store, name, tag.as_deref());
                let found = found.map(|(node, service)| CatalogService::new(node, service));
                Answer::json(&found.collect::<Vec<_>>(), pretty)
            }
            Self::HealthService { name, tag, passing } => {
                let found = instances(store, name, tag.as_deref()).map(|(node, service)| Health {
                    node,
                    service: NodeService::from(service),
                    checks: checks_for(store, node, service),
                });
                let mut found: Vec<_> = found.collect();
                if *passing {
                    drop_failing(&mut found);
                }
                Answer::json(&found, pretty)
            }
            Self::HealthNode { node } => checks(&|check| check.node == *node),
            Self::HealthChecks { service } => checks(&|check| check.service_name == *service),
            Self::HealthState { state } => {
                checks(&|check| state == "any" || check.status == *state)
            }
            _ => unreachable!("answered by the caller"),
        }
    }
}

fn keys<'a>(store: &'a Store, prefix: &'a str, separator: &str) -> Vec<&'a str> {
    let mut keys = Vec::new();
    for entry in store.below(prefix) {
        let key = match entry.key[prefix.len()..].find(separator) {
            Some(at) if !separator.is_empty() => &entry.key[..prefix.len() + at + separator.len()],
            _ => entry.key.as_str(),
        };
        // Entries are in order, so the entries of one folder are adjacent.
        if keys.last() != Some(&key) {
            keys.push(key);
        }
    }
    keys
}

fn node_answer<'a>(store: &'a Store, name: &'a str) -> Option<NodeAnswer<'a>> {
    let node = store.nodes.get(name)?;
    let services = store.services_of(name);
    let services = services.map(|service| (service.id.as_str(), NodeService::from(service)));
    Some(NodeAnswer { node, services: services.collect() })
}

fn services(store: &Store) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for service in store.services.values() {
        let tags = found.entry(&service.name).or_default();
        tags.extend(service.tags.iter().map(String::as_str));
    }
    found
}

/// Removes the instances that have a check that does not pass.
///
/// The order of the rest is that of the real one: the last instance takes the place of a removed one.
fn drop_failing(found: &mut Vec<Health<'_>>) {
    let mut at = 0;
    while let Some(health) = found.get(at) {
        if health.checks.iter().all(|check| check.status == "passing") {
            at += 1;
        } else {
            found.swap_remove(at);
        }
    }
}

/// Returns the instances of a service, with their nodes.
pub(super) fn instances<'a>(
    store: &'a Store,
    name: &'a str,
    tag: Option<&'a str>,
) -> impl Iterator<Item = (&'a Node, &'a Service)> {
    let rows = store.services.iter().filter(move |(_, service)| {
        service.name == name && tag.is_none_or(|tag| service.tags.iter().any(|t| t == tag))
    });
    rows.filter_map(|((node, _), service)| Some((store.nodes.get(node)?, service)))
}

/// Returns the checks that determine an instance's health: its node's, then its own.
pub(super) fn checks_for<'a>(
    store: &'a Store,
    node: &'a Node,
    service: &'a Service,
) -> Vec<&'a Check> {
    let of = |id: &'a str| store.checks_of(&node.name).filter(move |c| c.service_id == id);
    of("").chain(of(&service.id)).collect()
}
