//! A route table of the Resource Manager. What this hax does not know of it is carried over.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString as _};
use core::net::IpAddr;

use serde_json::{Map, Value};

use super::super::super::job::Fence;
use super::super::super::parameters::split_cidr;
use super::super::http::Reply;
use super::super::said::refusal;

/// The tag with the key of the lease under which the table was written.
const LEASE: &str = "hax-lease";

/// The tag with the term of that lease.
const TERM: &str = "hax-term";

/// The type of the routes that lead to a router.
const APPLIANCE: &str = "VirtualAppliance";

/// The fields of a table and of a route that are read only.
const READ_ONLY: [&str; 4] = ["provisioningState", "resourceGuid", "subnets", "hasBgpOverride"];

/// A route table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table(Map<String, Value>);

/// The state of a table or an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Succeeded,
    Running,
    Failed,
}

impl State {
    /// Returns the state with this name. Azure has further names of states that are not final.
    pub(super) fn of(name: &str) -> Self {
        match name {
            "Succeeded" => Self::Succeeded,
            "Failed" | "Canceled" | "Cancelled" => Self::Failed,
            _ => Self::Running,
        }
    }
}

impl Table {
    /// Reads a table.
    pub(super) fn read(what: &str, reply: &Reply) -> Result<Self, String> {
        if reply.status != 200 {
            return Err(refusal(what, reply));
        }
        let bad = || format!("{what}: the reply is no route table of Azure");
        let value: Value = serde_json::from_slice(&reply.body).map_err(|_| bad())?;
        let Value::Object(table) = value else { return Err(bad()) };
        let table = Self(table);
        if !table.0.get("properties").is_some_and(Value::is_object) || table.routes().is_none() {
            return Err(bad());
        }
        Ok(table)
    }

    fn properties(&self) -> Option<&Map<String, Value>> {
        self.0.get("properties")?.as_object()
    }

    /// Returns the routes; a table without routes may lack the field. None if the field is no list.
    fn routes(&self) -> Option<&[Value]> {
        match self.properties()?.get("routes") {
            Some(Value::Array(routes)) => Some(routes),
            Some(_) => None,
            None => Some(&[]),
        }
    }

    /// Returns the state of the last write of the table.
    pub(super) fn state(&self) -> State {
        let state = self.properties().and_then(|of| of.get("provisioningState"));
        state.and_then(Value::as_str).map_or(State::Succeeded, State::of)
    }

    /// Returns the table's entity tag.
    pub(super) fn etag(&self) -> Option<&str> {
        self.0.get("etag")?.as_str()
    }

    /// Returns the routes to routers of the same family of addresses.
    pub(super) fn appliances(&self, own: IpAddr) -> impl Iterator<Item = Route<'_>> {
        self.all().filter(move |route| route.is_appliance_for(own))
    }

    fn all(&self) -> impl Iterator<Item = Route<'_>> {
        self.routes().unwrap_or_default().iter().filter_map(Value::as_object).map(Route)
    }

    /// Returns the route to a destination.
    pub(super) fn find(&self, destination: (IpAddr, u8)) -> Option<Route<'_>> {
        self.all().find(|route| split_cidr(route.text("addressPrefix")) == Some(destination))
    }

    /// Returns the key of the lease under which the table was written, and its term.
    pub(super) fn lease(&self) -> Option<(&str, u64)> {
        let tags = self.0.get("tags")?.as_object()?;
        let text = |name| tags.get(name).and_then(Value::as_str);
        Some((text(LEASE)?, text(TERM)?.parse().ok()?))
    }

    /// Returns the body of a write of the table. The routes to routers of the same family get this next hop, if
    /// one is given, and the tags those of this lease.
    pub(super) fn with(&self, hop: Option<IpAddr>, fence: Option<&Fence>) -> Value {
        let mut table = self.0.clone();
        ["etag", "type", "name", "id"].iter().for_each(|name| drop(table.remove(*name)));
        if let Some(Value::Object(properties)) = table.get_mut("properties") {
            READ_ONLY.iter().for_each(|name| drop(properties.remove(*name)));
            if let Some(Value::Array(routes)) = properties.get_mut("routes") {
                for route in routes.iter_mut().filter_map(Value::as_object_mut) {
                    let hop = hop.filter(|own| Route(route).is_appliance_for(*own));
                    *route = Route(route).with(hop.map(|hop| hop.to_string()).as_deref());
                }
            }
        }
        if let Some(Fence { key, term, .. }) = fence {
            let tags = table.entry("tags").or_insert_with(|| Value::Object(Map::new()));
            if !tags.is_object() {
                *tags = Value::Object(Map::new());
            }
            if let Some(tags) = tags.as_object_mut() {
                tags.insert(LEASE.into(), Value::String(key.as_ref().into()));
                tags.insert(TERM.into(), Value::String(term.to_string()));
            }
        }
        Value::Object(table)
    }
}

/// A route of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route<'a>(&'a Map<String, Value>);

impl<'a> Route<'a> {
    fn text(&self, name: &str) -> &'a str {
        let properties = self.0.get("properties").and_then(Value::as_object);
        properties.and_then(|of| of.get(name)).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns the name.
    pub(super) fn name(&self) -> &'a str {
        self.0.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns the entity tag.
    pub(super) fn etag(&self) -> Option<&'a str> {
        self.0.get("etag")?.as_str()
    }

    /// Returns the type of the next hop.
    pub(super) fn kind(&self) -> &'a str {
        self.text("nextHopType")
    }

    /// Returns whether the route leads to a router.
    pub(super) fn is_appliance(&self) -> bool {
        self.kind() == APPLIANCE
    }

    /// Returns whether the route leads to a router, and a router with this address can take its place.
    fn is_appliance_for(&self, own: IpAddr) -> bool {
        let of_hop = self.text("nextHopIpAddress").parse().ok();
        // A destination may also be the name of a service.
        let of_destination = || split_cidr(self.text("addressPrefix")).map(|(ip, _)| ip);
        let found: Option<IpAddr> = of_hop.or_else(of_destination);
        self.is_appliance() && found.is_none_or(|ip| ip.is_ipv4() == own.is_ipv4())
    }

    /// Returns the address of the next hop.
    pub(super) fn hop(&self) -> Box<str> {
        self.text("nextHopIpAddress").into()
    }

    /// Returns whether the route leads to this address.
    pub(super) fn is_by(&self, hop: IpAddr) -> bool {
        self.text("nextHopIpAddress").parse() == Ok(hop)
    }

    /// Returns the body of a write of the route, with this next hop if one is given.
    pub(super) fn with(&self, hop: Option<&str>) -> Map<String, Value> {
        let mut route = self.0.clone();
        ["etag", "type"].iter().for_each(|name| drop(route.remove(*name)));
        if let Some(Value::Object(properties)) = route.get_mut("properties") {
            READ_ONLY.iter().for_each(|name| drop(properties.remove(*name)));
            if let Some(hop) = hop {
                properties.insert("nextHopIpAddress".into(), Value::String(hop.into()));
            }
        }
        route
    }
}
