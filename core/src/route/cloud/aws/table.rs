//! A route table of EC2, as `DescribeRouteTables` returns it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::super::super::parameters::split_cidr;
use super::super::http::Reply;
use super::xml::{Part, Reader};

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) destination: Destination,
    pub(super) target: Option<Target>,
}

/// The destination of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    kind: DestinationKind,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DestinationKind {
    V4,
    V6,
    PrefixList,
}

impl Destination {
    /// Returns the name of the request's parameter.
    pub(super) const fn field(&self) -> &'static str {
        match self.kind {
            DestinationKind::V4 => "DestinationCidrBlock",
            DestinationKind::V6 => "DestinationIpv6CidrBlock",
            DestinationKind::PrefixList => "DestinationPrefixListId",
        }
    }

    /// Returns whether this is the destination of a node. Addresses of IPv6 have several notations.
    pub(super) fn is(&self, cidr: (IpAddr, u8)) -> bool {
        split_cidr(&self.text) == Some(cidr)
    }
}

/// The target of a route: its kind, by the name of the request's parameter, and its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) field: &'static str,
    pub(super) id: String,
}

impl Target {
    /// Returns the target of an interface.
    pub(super) fn interface(id: &str) -> Self {
        Self { field: INTERFACE, id: id.into() }
    }

    /// Returns whether the target is an interface.
    pub(super) fn is_interface(&self) -> bool {
        self.field == INTERFACE
    }
}

/// The maximum length of an id or a destination.
const ID_MAX: usize = 256;

const INTERFACE: &str = "NetworkInterfaceId";

/// The targets: the element of a route, and the parameter of `ReplaceRoute`. An instance's route has the
/// interface as well, and the interface is more exact, so it is the first one.
const TARGETS: [(&str, &str); 11] = [
    ("networkInterfaceId", INTERFACE),
    ("gatewayId", "GatewayId"),
    ("natGatewayId", "NatGatewayId"),
    ("transitGatewayId", "TransitGatewayId"),
    ("vpcPeeringConnectionId", "VpcPeeringConnectionId"),
    ("egressOnlyInternetGatewayId", "EgressOnlyInternetGatewayId"),
    ("localGatewayId", "LocalGatewayId"),
    ("carrierGatewayId", "CarrierGatewayId"),
    ("coreNetworkArn", "CoreNetworkArn"),
    ("instanceId", "InstanceId"),
    ("odbNetworkArn", "OdbNetworkArn"),
];

/// The fields of a route that is being read.
#[derive(Default)]
struct Fields {
    destination: Option<Destination>,
    /// The targets that were found, by their place in [`TARGETS`].
    target: Option<(usize, Target)>,
}

impl Fields {
    fn set(&mut self, name: &str, text: &str) {
        // The ids are sent back and shown.
        if text.len() > ID_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return;
        }
        let kind = match name {
            "destinationCidrBlock" => Some(DestinationKind::V4),
            "destinationIpv6CidrBlock" => Some(DestinationKind::V6),
            "destinationPrefixListId" => Some(DestinationKind::PrefixList),
            _ => None,
        };
        if let Some(kind) = kind {
            self.destination = Some(Destination { kind, text: text.into() });
        }
        let Some(place) = TARGETS.iter().position(|(element, _)| *element == name) else { return };
        if self.target.as_ref().is_none_or(|(found, _)| place < *found) {
            let field = match (TARGETS[place].1, text) {
                ("GatewayId", "local") => "LocalTarget",
                ("GatewayId", id) if id.starts_with("vpce-") => "VpcEndpointId",
                (field, _) => field,
            };
            self.target = Some((place, Target { field, id: text.into() }));
        }
    }
}

/// Reads the routes of the table with this id.
pub(super) fn read(id: &str, what: &str, reply: &Reply) -> Result<Vec<Route>, String> {
    let text = reply.text(what)?;
    routes(id, text).map_err(|why| format!("{what}: the reply is not of EC2: {why}"))
}

fn routes(id: &str, text: &str) -> Result<Vec<Route>, &'static str> {
    let mut reader = Reader::new(text);
    let (mut is_table, mut routes, mut fields) = (false, Vec::new(), Fields::default());
    while let Some(part) = reader.read()? {
        let ["DescribeRouteTablesResponse", "routeTableSet", "item", inside @ ..] = reader.path()
        else {
            continue;
        };
        match (inside, part) {
            (["routeTableId"], Part::Text(found)) => is_table |= found == id,
            (["routeSet", "item"], Part::Open) => fields = Fields::default(),
            (["routeSet", "item", name], Part::Text(text)) => fields.set(name, &text),
            (["routeSet", "item"], Part::Close) => {
                let Fields { destination, target } = core::mem::take(&mut fields);
                let target = target.map(|(_, target)| target);
                routes.extend(destination.map(|destination| Route { destination, target }));
            }
            _ => {}
        }
    }
    if is_table { Ok(routes) } else { Err("it does not have the route table") }
}

/// Returns the code and the message of EC2's error.
pub(super) fn error(text: &str) -> Option<(String, String)> {
    let mut reader = Reader::new(text);
    let (mut code, mut message) = (None, None);
    while let Ok(Some(part)) = reader.read() {
        let Part::Text(text) = part else { continue };
        match reader.path() {
            [.., "Error", "Code"] => code = Some(text.into_owned()),
            [.., "Error", "Message"] => message = Some(text.into_owned()),
            _ => {}
        }
    }
    Some((code?, message.unwrap_or_default()))
}
