//! The event handler for the kernel's routing tables.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;

use anyhow::{Context as _, bail};
use hax_core::route::decide::Response;
use hax_core::route::job::{Done, Job, Outcome};
use hax_core::route::parameters::split_cidr;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::netlink::{Hop, Netlink, Place, Route};

/// The folder with the names of network namespaces, as `ip netns` keeps them.
const NAMESPACES: &str = "/run/netns";

/// `RT_TABLE_MAIN` (linux/rtnetlink.h).
const MAIN: u32 = 254;

/// Carries out a job. A write counts as done only after the route has been read back.
pub(super) fn work(job: &Job) -> anyhow::Result<Done> {
    if let Some(name) = job.parameters.get("namespace") {
        enter(name).with_context(|| format!("network namespace {name}"))?;
    }
    let (place, hop) = target(job)?;
    let mut kernel = Netlink::open().context("rtnetlink")?;
    let found = kernel.routes(place).context("reading the routes")?;
    let before = found.first();
    let led = before.map_or_else(|| "nowhere".into(), Route::describe);
    let (route, outcome, detail) = match (job.response, before) {
        (Response::Nothing, _) => bail!("there is nothing to be done"),
        (Response::UpdateIfDifferent, Some(route)) if route.is_by(hop) => {
            let detail = format!("the route leads to {} already", hop.gateway);
            return Ok(Done::new(Outcome::Unchanged, detail));
        }
        (Response::Update | Response::UpdateIfDifferent, before) => {
            let detail = format!("the route led to {led} and leads to {} now", hop.gateway);
            (Route::new(place, hop, before), Outcome::Updated, detail)
        }
        (Response::WriteBack, None) => {
            bail!("the table {} has no route to {}/{}", place.table, place.ip, place.prefix)
        }
        (Response::WriteBack, Some(route)) => {
            let detail = format!("the route leads to {led} and can be updated");
            (route.clone(), Outcome::WrittenBack, detail)
        }
    };
    kernel.replace(&route).context("writing the route")?;
    let after = kernel.routes(place).context("reading the route back")?;
    let is_so = |after: &Route| match outcome {
        Outcome::Updated => after.is_by(hop),
        Outcome::Unchanged | Outcome::WrittenBack | Outcome::Failed => after.describe() == led,
    };
    // All routes with the lowest metric are in use, and none of them may lead elsewhere.
    let metric = after.first().map(Route::metric);
    let counts = |route: &&Route| Some(route.metric()) == metric;
    if after.is_empty() || !after.iter().filter(counts).all(is_so) {
        let leads = after.first().map_or_else(|| "nowhere".into(), Route::describe);
        bail!("the route was written, and leads to {leads} when it is read back");
    }
    Ok(Done::new(outcome, detail))
}

/// Returns the destination of the route and its intended next hop.
fn target(job: &Job) -> anyhow::Result<(Place, Hop)> {
    let of = |name: &str| job.parameters.get(name).map(|value| &**value);
    let table = match of("table").context("no table")? {
        "main" => MAIN,
        number => number.parse().context("the table")?,
    };
    let (ip, prefix) = of("route").and_then(split_cidr).context("no route")?;
    let gateway: IpAddr = of("nextHop").context("no next hop")?.parse().context("the next hop")?;
    let device = match of("device") {
        Some(name) => Some(index_of(name).with_context(|| format!("interface {name}"))?),
        None => None,
    };
    Ok((Place { table, ip, prefix }, Hop { gateway, device }))
}

/// Moves the handler into this network namespace. The handler has only one thread.
fn enter(name: &str) -> io::Result<()> {
    let namespace = File::open(format!("{NAMESPACES}/{name}"))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

fn index_of(name: &str) -> io::Result<u32> {
    let (family, kind) = (AddressFamily::INET, SocketType::DGRAM);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    Ok(name_to_index(&socket, name)?)
}
