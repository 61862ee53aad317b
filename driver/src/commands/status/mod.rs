//! `hax status`.

mod table;

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use hax_core::consul::port::Method;
use serde_json::Value;

use super::remote::Remote;
use crate::exit::Exit;
use crate::host::platform::{Client as _, Platform};
use crate::host::timer::within;
use crate::settings::Settings;

/// The maximum length of Consul's response about a session, in bytes.
const SESSION_MAX: usize = 64 << 10;

/// The timeout of that response.
const SESSION_WITHIN: Duration = Duration::from_secs(2);

/// Queries the hax of these settings and prints the response.
pub(super) async fn run<P: Platform>(
    settings: &Settings,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<Exit> {
    let hax = Remote::find::<P>(settings).await.context(
        "cannot find out where hax is; --http ADDRESS:PORT finds it without Consul, and its log has the \
         address (hax listens)",
    )?;
    let at = &hax.authority;
    let (code, body) = match hax.get::<P>("/status").await {
        Ok(answer) => answer,
        Err(_) if hax.in_the_other_way().is_alive::<P>().await => bail!(hax.other_way_than_asked()),
        Err(why) => {
            return Err(why.context(format!(
                "no hax answers at {at}; does it run (systemctl status hax), and is this its address?"
            )));
        }
    };
    match code {
        200 => {}
        401 => bail!("the hax at {at} demands its token: give --http-token-file"),
        404 => bail!("what answers at {at} knows no /status: it is no hax, or an older one"),
        _ => bail!("the hax at {at} says {code}: {}", String::from_utf8_lossy(&body)),
    }
    let said: Value =
        serde_json::from_slice(&body).with_context(|| format!("the answer of {at}"))?;
    // A hax without services knows no such path.
    let of_services = match hax.get::<P>("/status/services").await {
        Ok((200, body)) => serde_json::from_slice::<Value>(&body).ok(),
        _ => None,
    };
    if json {
        writeln!(out, "{}", String::from_utf8_lossy(&body).trim_end())?;
    } else if said["coordinates"].is_boolean() {
        // A hax without a bridge has the status of its services only.
        out.write_all(services(&said).as_bytes())?;
    } else {
        out.write_all(table::table(&said).as_bytes())?;
        if let Some(said) = &of_services {
            write!(out, "\nServices\n{}", services(said))?;
        }
        if let Some(whose) = foreign_lock::<P>(settings, &said["leader"]).await {
            writeln!(out, "{whose}")?;
        }
    }
    let is_ready = said["ready"] == true && of_services.is_none_or(|said| said["ready"] == true);
    Ok(if is_ready { Exit::Clean } else { Exit::NotReady })
}

/// Returns the status of services as text.
#[cfg(feature = "services")]
fn services(said: &Value) -> String {
    super::service::status(said)
}

/// Returns the status of services as it is: this program has no services.
#[cfg(not(feature = "services"))]
fn services(said: &Value) -> String {
    format!("{said}\n")
}

/// Returns a line about the session that keeps hax from the lead, if it does not belong to a hax. hax itself
/// does not ask for it. The result is `None` if Consul does not tell.
async fn foreign_lock<P: Platform>(settings: &Settings, leader: &Value) -> Option<String> {
    let waits = leader["stands"] == true && leader["holds"] == false;
    let is_id = |id: &&str| id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let session = leader["session"].as_str().filter(is_id).filter(|_| waits)?;
    let client = P::Client::new(&settings.consul).ok()?;
    let target = format!("/v1/session/info/{session}");
    let answer = client.send(Method::Get, &target, Bytes::new(), SESSION_MAX);
    let answer = within::<P, _>(SESSION_WITHIN, answer).await?.ok()?;
    let info: Value = serde_json::from_slice(&answer.body).ok()?;
    if info[0]["ID"] != session {
        return None;
    }
    // Consul may show the checks given as Checks only in the other fields.
    let named = ["Checks", "NodeChecks"].into_iter().filter_map(|field| info[0][field].as_array());
    let of_services = info[0]["ServiceChecks"].as_array().into_iter().flatten();
    let checks: BTreeSet<_> = named
        .flatten()
        .chain(of_services.map(|check| &check["ID"]))
        .filter_map(Value::as_str)
        .collect();
    if checks.contains("hax-leader") {
        return None;
    }
    let checks: Vec<_> = checks.into_iter().collect();
    Some(format!(
        "The session {session} was not created by hax: its checks are {}. While it holds the lock, no hax leads.",
        checks.join(", ")
    ))
}
