//! The contents of Consul: whether hax can read all of it, and whether hax is in it.

use bytes::Bytes;
use hax_core::base::fid::Fid;
use hax_core::cluster::conf::Conf;
use hax_core::cluster::states::ProcessRecord;
use hax_core::consul::json::{Elements, KvEntry};
use hax_core::discover::Identity;
use hax_core::wire::name::{self, BadName};

use super::{get, refused};
use crate::host::platform::Platform;
use crate::settings::Settings;

/// The maximum number of reported errors of one kind; one cause may affect all entries.
const NAMED: usize = 3;

/// Reads the configuration in the same way as hax.
pub(super) async fn configuration<P: Platform>(
    settings: &Settings,
    client: &P::Client,
) -> Result<(Conf, String), String> {
    let mut conf = Conf::default();
    let mut wrong = Vec::new();
    let entries = each::<P>(settings, client, "m0conf", |entry, value| {
        let path = entry.key.strip_prefix("m0conf/").unwrap_or(&entry.key);
        if !conf.apply(path, value, entry.modify_index) {
            wrong.push(format!("{} is not of the expected form", entry.key));
        }
    });
    if entries.await? == 0 {
        let hint = match settings.consul.token {
            Some(_) => "does the token's policy have key_prefix \"\"",
            None => "does Consul want a token (--consul-token-file)",
        };
        let why = "there is no m0conf/ that hax may read: has the cluster been bootstrapped, and";
        return Err(format!("{why} {hint}?"));
    }
    // If hax has a libfabric endpoint, Motr's library connects to all endpoints.
    let is_hax = |process| conf.get_process(process).is_some_and(|process| process.hax);
    let is_fabric = |endpoint: &str| name::parse(endpoint) == Err(BadName::Libfabric);
    let library = conf.endpoints().any(|(process, name)| is_hax(process) && is_fabric(name));
    for (process, endpoint) in conf.endpoints() {
        let why = match name::parse(endpoint) {
            Ok(_) => continue,
            Err(BadName::Libfabric) if library => continue,
            Err(BadName::Libfabric) => "is of libfabric, and hax's own is not",
            Err(BadName::Syntax(why)) => why,
        };
        wrong.push(format!("the endpoint {endpoint:?} of {process} {why}"));
    }
    conf.resolve(|_| false);
    let text = format!("m0conf/ is loaded, with {} processes", conf.processes().count());
    well(&wrong).map(|()| (conf, text))
}

/// Reads the records of processes in the same way as hax.
pub(super) async fn words<P: Platform>(
    settings: &Settings,
    client: &P::Client,
) -> Result<((), String), String> {
    let mut wrong = Vec::new();
    let entries = each::<P>(settings, client, "processes", |entry, value| {
        let process = entry.key.strip_prefix("processes/");
        let is_fid = process.is_some_and(|process| process.parse::<Fid>().is_ok());
        if !is_fid || ProcessRecord::from_kv(value, entry.flags).is_none() {
            wrong.push(format!("{} is not of the expected form", entry.key));
        }
    });
    let entries = entries.await?;
    well(&wrong).map(|()| ((), format!("processes/ has {entries} entries")))
}

/// Checks whether our process is hax in the configuration.
pub(super) fn process(conf: &Conf, who: &Identity) -> Result<((), String), String> {
    let Identity { fid, node, .. } = who;
    match conf.host_of(*fid) {
        None => Err(format!("m0conf/ knows no process {fid} (--fid)")),
        Some(host) if *host != **node => {
            Err(format!("m0conf/ has {fid} on the node {host}, not on {node} (--fid, --node)"))
        }
        Some(_) if !conf.service_names(*fid).any(|service| service == "ha") => {
            let has: Vec<_> = conf.service_names(*fid).collect();
            Err(format!("{fid} is no hax: its services are {} (--fid)", has.join(", ")))
        }
        Some(_) => Ok(((), "m0conf/ has it, with the service ha".into())),
    }
}

/// Reads a table in the same way as hax; returns the number of its entries.
async fn each<P: Platform>(
    settings: &Settings,
    client: &P::Client,
    table: &str,
    mut take: impl FnMut(&KvEntry<'_>, &[u8]),
) -> Result<usize, String> {
    let target = format!("/v1/kv/{table}/?recurse");
    let answer = get::<P>(settings, client, &target, settings.consul.answer_max).await?;
    let body = match answer.status {
        200 => answer.body,
        404 => Bytes::from_static(b"[]"),
        _ => return Err(refused(client, &answer)),
    };
    let (mut elements, mut entries) = (Elements::new(body), 0);
    while let Some(entry) = elements.next::<KvEntry<'_>>() {
        let entry = entry.map_err(|why| format!("Consul's answer is not understood: {why}"))?;
        let value = entry.bytes().ok_or("a value is not base64: is it Consul that answers?")?;
        take(&entry, &value);
        entries += 1;
    }
    Ok(entries)
}

/// Returns success, or the first of the errors.
fn well(wrong: &[String]) -> Result<(), String> {
    if wrong.is_empty() {
        return Ok(());
    }
    let named = wrong.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join("; ");
    match wrong.len().saturating_sub(NAMED) {
        0 => Err(named),
        more => Err(format!("{named}; and {more} more")),
    }
}
