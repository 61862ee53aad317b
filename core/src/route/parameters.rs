//! The parameters of redundancy nodes: the parameters of each provider, and their valid values.
//!
//! The flags and the stored names are those of the scripts that are used in the field.

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::String;
use core::net::IpAddr;

use super::node::{Node, Parameters};
use super::provider::Provider;

/// One parameter of a provider.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// The flag of a script.
    pub flag: &'static str,
    /// The name under which the value is stored.
    pub name: &'static str,
    /// Whether an event requires the parameter.
    pub required: bool,
    /// The description, for `-h`.
    pub help: &'static str,
    check: fn(&str) -> Result<(), String>,
}

const fn required(
    flag: &'static str,
    name: &'static str,
    check: fn(&str) -> Result<(), String>,
    help: &'static str,
) -> Parameter {
    Parameter { flag, name, required: true, help, check }
}

const fn optional(
    flag: &'static str,
    name: &'static str,
    check: fn(&str) -> Result<(), String>,
    help: &'static str,
) -> Parameter {
    Parameter { flag, name, required: false, help, check }
}

/// The parameter `group`, which every provider has.
const GROUP: Parameter = optional(
    "-group",
    "group",
    group,
    "the group under whose lease at Consul the node is acted on, as both routers call it",
);

const LINUX: [Parameter; 6] = [
    required("-t", "table", kernel_table, "the kernel's route table: a number from 1, or main"),
    required("-r", "route", cidr, "the route: its destination, as 192.0.2.0/24 or 2001:db8::/32"),
    required("-n", "nextHop", address, "this router's address, of the same family"),
    optional("-dev", "device", device, "the interface through which the next hop is reached"),
    optional("-ns", "namespace", namespace, "the network namespace (ip netns) that has the table"),
    GROUP,
];

const CONSUL: [Parameter; 5] = [
    required("-t", "table", text, "the name of the route table"),
    required("-r", "route", cidr, "the route: its destination, as 192.0.2.0/24 or 2001:db8::/32"),
    required("-n", "nextHop", address, "this router's address"),
    optional("-prefix", "prefix", prefix, "where the tables are in Consul's KV store; routes"),
    GROUP,
];

const AWS: [Parameter; 5] = [
    required("-t", "routeTableId", aws_table, "the route table: rtb- and hexadecimal digits"),
    required("-rg", "region", region, "the region, as us-east-1"),
    required("-n", "eniId", aws_interface, "this router's interface: eni- and hexadecimal digits"),
    optional("-r", "route", cidr, "the route: its destination; without one, all of the table"),
    GROUP,
];

const AZURE: [Parameter; 9] = [
    required("-t", "routeTableName", text, "the name of the route table"),
    required("-n", "nextHop", address, "this router's address"),
    optional("-s", "subscriptionId", text, "the subscription; else that of this machine"),
    optional("-g", "resourceGroup", text, "the resource group; else that of this machine"),
    optional("-r", "route", cidr, "the route: its destination; without one, all of the table"),
    optional("-a", "appId", text, "the application; without one, the managed identity"),
    optional("-d", "tenantId", text, "the tenant, with an application"),
    optional(
        "-k",
        "appKey",
        secret,
        "where its key is, with an application: file:PATH or env:NAME",
    ),
    GROUP,
];

const GCP: [Parameter; 8] = [
    required("-g", "project", text, "the project"),
    required("-a", "routeName", gcp_name, "the name of this router's route"),
    required("-b", "peerRouteName", gcp_name, "the name of the other router's route"),
    required("-n", "nextHopIp", address, "this router's address"),
    required("-o", "hopPriority", priority, "the priority of this router's route: 1 to 65534"),
    required("-r", "route", cidr, "the route: its destination"),
    required("-v", "vpc", gcp_name, "the network"),
    GROUP,
];

/// Returns the parameters of a provider.
#[must_use]
pub const fn of(provider: Provider) -> &'static [Parameter] {
    match provider {
        Provider::Linux => &LINUX,
        Provider::Consul => &CONSUL,
        Provider::Aws => &AWS,
        Provider::Azure(_) => &AZURE,
        Provider::Gcp => &GCP,
    }
}

/// Returns whether any provider has a parameter with this flag.
#[must_use]
pub fn is_flag(flag: &str) -> bool {
    Provider::ALL.into_iter().any(|provider| of(provider).iter().any(|p| p.flag == flag))
}

/// Returns the provider's parameter with this flag.
///
/// # Errors
///
/// The provider has no such parameter.
pub fn find(provider: Provider, flag: &str) -> Result<&'static Parameter, String> {
    let found = of(provider).iter().find(|parameter| parameter.flag == flag);
    found.ok_or_else(|| format!("{flag}: {} has no such parameter", provider.name()))
}

/// Returns the provider's parameter with this stored name.
#[must_use]
pub fn named(provider: Provider, name: &str) -> Option<&'static Parameter> {
    of(provider).iter().find(|parameter| parameter.name == name)
}

impl Parameter {
    /// Checks a value and stores it.
    ///
    /// # Errors
    ///
    /// The reason why the value is invalid.
    pub fn set(&self, parameters: &mut Parameters, value: &str) -> Result<(), String> {
        (self.check)(value).map_err(|why| {
            // The message does not repeat a secret that was passed as the value.
            let shown = if self.flag == "-k" { "…".into() } else { format!("{value:?}") };
            format!("{} {shown}: {why}", self.flag)
        })?;
        parameters.insert(self.name, value.into());
        Ok(())
    }
}

/// Returns the required parameters that the node lacks. An event on the node needs them.
pub fn missing(node: &Node) -> impl Iterator<Item = &'static Parameter> {
    let lacks = |p: &&Parameter| p.required && !node.parameters.contains_key(p.name);
    of(node.provider).iter().filter(lacks)
}

/// Checks whether parameters that are valid individually are consistent.
///
/// # Errors
///
/// The contradiction, as text.
pub fn check_together(node: &Node) -> Result<(), String> {
    let of = |name| node.parameters.get(name);
    let hop = of("nextHop").or_else(|| of("nextHopIp"));
    if let Some((route, hop)) = of("route").zip(hop) {
        let families = (split_cidr(route).map(|(ip, _)| ip.is_ipv4()), hop.parse::<IpAddr>());
        if let (Some(is_v4), Ok(hop)) = families
            && is_v4 != hop.is_ipv4()
        {
            return Err(format!("-r {route} and -n {hop} are of different families"));
        }
    }
    if of("appId").is_some() && (of("tenantId").is_none() || of("appKey").is_none()) {
        return Err("-a is given together with -d and -k".into());
    }
    Ok(())
}

/// Returns the address and the prefix length of a CIDR.
#[must_use]
pub fn split_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, length) = text.split_once('/')?;
    let is_plain = length.bytes().all(|byte| byte.is_ascii_digit());
    let ip: IpAddr = ip.parse().ok()?;
    let length: u8 = length.parse().ok().filter(|_| is_plain)?;
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    (length <= bits).then_some((ip, length))
}

// ---- valid values -------------------------------------------------------------------------------------

fn cidr(value: &str) -> Result<(), String> {
    let Some((ip, length)) = split_cidr(value) else {
        return Err("a route is an address and a prefix length, as 192.0.2.0/24".into());
    };
    let network = match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6((u128::from(ip) & mask).into())
        }
    };
    if network == ip {
        return Ok(());
    }
    Err(format!("there are bits beyond the prefix; the network is {network}/{length}"))
}

fn address(value: &str) -> Result<(), String> {
    value.parse::<IpAddr>().map(drop).map_err(|_| "no address of IPv4 or IPv6".into())
}

fn kernel_table(value: &str) -> Result<(), String> {
    let is_number = value.bytes().all(|b| b.is_ascii_digit()) && !value.starts_with('0');
    if value == "main" || is_number && value.parse::<u32>().is_ok() {
        return Ok(());
    }
    Err("a table is a number from 1 to 4294967295, or main".into())
}

/// Checks a device name by the rule of the kernel's `dev_valid_name`.
fn device(value: &str) -> Result<(), String> {
    let is_odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if value.len() < 16 && !matches!(value, "." | "..") && !value.contains(is_odd) {
        return Ok(());
    }
    Err("no name of an interface".into())
}

fn namespace(value: &str) -> Result<(), String> {
    let is_odd = |c: char| c == '/' || c.is_control();
    if value.len() < 256 && !matches!(value, "." | "..") && !value.contains(is_odd) {
        return Ok(());
    }
    Err("no name of a network namespace".into())
}

fn text(value: &str) -> Result<(), String> {
    if value.chars().any(char::is_control) { Err("has control characters".into()) } else { Ok(()) }
}

/// Checks a key prefix. Routes may not be stored below `ha/`, since the daemons of the cluster use it.
fn prefix(value: &str) -> Result<(), String> {
    let is_odd = value.starts_with('/') || value.ends_with('/');
    if is_odd || value == "ha" || value.starts_with("ha/") {
        return Err("a prefix neither begins nor ends with a slash, and is not ha".into());
    }
    text(value)
}

/// Checks a region. It becomes a part of a host's name.
fn region(value: &str) -> Result<(), String> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=32).contains(&value.len()) && value.bytes().all(inner) {
        return Ok(());
    }
    Err("a region is 1 to 32 lower-case letters, digits and hyphens, as us-east-1".into())
}

fn aws_table(value: &str) -> Result<(), String> {
    aws_id("rtb-", value)
}

fn aws_interface(value: &str) -> Result<(), String> {
    aws_id("eni-", value)
}

fn aws_id(prefix: &str, value: &str) -> Result<(), String> {
    let digits = value.strip_prefix(prefix).unwrap_or_default();
    if digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(format!("expected {prefix} and at least 8 hexadecimal digits"))
}

/// Checks the name of a group, which is a part of a key in Consul and of a check's name.
fn group(value: &str) -> Result<(), String> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if value.len() <= 64 && value.bytes().all(inner) {
        return Ok(());
    }
    Err("a group is 1 to 64 letters, digits, hyphens, dots and underscores".into())
}

/// Checks a resource name of Compute Engine (RFC 1035).
fn gcp_name(value: &str) -> Result<(), String> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let starts = value.starts_with(|c: char| c.is_ascii_lowercase());
    if starts && value.len() <= 63 && value.bytes().all(inner) && !value.ends_with('-') {
        return Ok(());
    }
    Err("a name is 1 to 63 lower-case letters, digits and hyphens, a letter first, no hyphen last"
        .into())
}

fn priority(value: &str) -> Result<(), String> {
    let is_number = value.bytes().all(|b| b.is_ascii_digit()) && !value.starts_with('0');
    if is_number && value.parse::<u16>().is_ok_and(|number| number < u16::MAX) {
        return Ok(());
    }
    Err("a priority is a number from 1 to 65534".into())
}

/// Checks the reference to a secret. The secret itself is not accepted: it would be visible in the file of
/// redundancy nodes and in the list of processes.
fn secret(value: &str) -> Result<(), String> {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let is_file = value.strip_prefix("file:").is_some_and(|path| path.starts_with('/'));
    if is_file || value.strip_prefix("env:").is_some_and(is_name) {
        return text(value);
    }
    Err("a secret is given by reference: file:/PATH or env:NAME".to_owned())
}

#[cfg(test)]
mod tests;
