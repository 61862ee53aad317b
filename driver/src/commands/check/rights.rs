//! The rights of hax's token: all reads, writes and registrations of hax are tried. Consul does not tell what
//! it omits from a response because of a token, so the check looks for entries that must exist.

use bytes::Bytes;
use hax_core::cluster::health::host_of;
use hax_core::consul::port::Method;
use hax_core::discover::Identity;
use hax_core::wire::name::{self, BadName};
use serde_json::Value;

use super::{ANSWER_MAX, get, refused, send, send_body};
use crate::host::platform::Platform;
use crate::settings::Settings;
use crate::settings::values::{MotrTransport, Switch};

/// A compare-and-set with this index never succeeds: no index of Consul is as large.
const NEVER: &str = "?cas=18446744073709551615";

/// A session with a TTL, so that it ends even if it is not destroyed here.
const SESSION: &str =
    r#"{"Name": "hax check", "TTL": "10s", "LockDelay": "0s", "Behavior": "delete"}"#;

/// The service for the leader's check, with an ID of its own, so that the service of a running hax is not
/// changed.
const SERVICE: &str = r#"{"ID": "hax-check", "Name": "hax-leader"}"#;

/// Returns the description of the token.
fn whose(settings: &Settings) -> String {
    match &settings.consul.token {
        Some(token) => format!("the token of {token}"),
        None => "who has no token (--consul-token-file)".into(),
    }
}

/// Checks whether the configured datacenter exists.
pub(super) async fn datacenter<P: Platform>(
    settings: &Settings,
    client: &P::Client,
) -> Result<((), String), String> {
    let Some(asked) = &settings.consul.datacenter else {
        return Ok(((), "the agent's own".into()));
    };
    let known = json::<P>(settings, client, "/v1/catalog/datacenters").await?;
    let known: Vec<_> = known.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if known.contains(&asked.to_string().as_str()) {
        return Ok(((), format!("{asked} is one that Consul knows")));
    }
    let known = known.join(", ");
    Err(format!("Consul knows no datacenter {asked}, only {known} (--consul-datacenter)"))
}

/// Checks whether the catalog and the checks are visible.
pub(super) async fn sight<P: Platform>(
    settings: &Settings,
    client: &P::Client,
    who: &Identity,
) -> Result<((), String), String> {
    let mut unseen = Vec::new();
    let nodes = json::<P>(settings, client, "/v1/catalog/nodes").await?;
    let nodes: Vec<_> = nodes.as_array().into_iter().flatten().collect();
    let name = |node: &&Value| node["Node"].as_str().unwrap_or_default().to_owned();
    let is_ours = |name: String| name == *who.node || host_of(&name) == &*who.node;
    if !nodes.iter().map(name).any(is_ours) {
        unseen.push(format!("the node {} in the catalog (node_prefix \"\", read)", who.node));
    }
    let checks = json::<P>(settings, client, "/v1/health/state/any").await?;
    if checks.as_array().is_none_or(Vec::is_empty) {
        unseen.push("any check (node_prefix \"\" and service_prefix \"\", read)".into());
    }
    let services = json::<P>(settings, client, "/v1/catalog/services").await?;
    if services.as_object().is_none_or(serde_json::Map::is_empty) {
        unseen.push("any service (service_prefix \"\", read)".into());
    }
    let agent = get::<P>(settings, client, "/v1/agent/self", ANSWER_MAX).await?;
    match agent.status {
        200 => {}
        403 => unseen.push("the agent (agent_prefix \"\", read)".into()),
        _ => return Err(refused(client, &agent)),
    }
    if unseen.is_empty() {
        return Ok(((), format!("{} nodes, their checks and the agent are seen", nodes.len())));
    }
    let (whose, unseen) = (whose(settings), unseen.join(", "));
    Err(format!("{whose} does not see {unseen}: docs/OPERATE.md has the policy"))
}

/// Returns keys that hax reads and writes, one of each folder.
fn keys(settings: &Settings, who: &Identity) -> Vec<String> {
    let Identity { fid, node, .. } = who;
    let mut keys = vec![
        "m0conf/nodes".to_owned(),
        format!("processes/{fid}"),
        format!("{node}/process_restarts/{fid}"),
        "events/subscription/node".to_owned(),
    ];
    if settings.bridge.elect {
        keys.push("leader".into());
    }
    if settings.bridge.bq == Switch::On {
        keys.extend(["epoch".into(), "bq/0".into(), format!("bq-delivered/{node}")]);
    }
    let is_fabric = name::parse(&who.endpoint) == Err(BadName::Libfabric);
    if settings.bridge.elect && (settings.motr.transport == MotrTransport::Lib || is_fabric) {
        let statistics = ["stats/filesystem", "bytecount/healthy", "ioservices/0"];
        keys.extend(statistics.map(str::to_owned));
    }
    keys
}

/// Checks whether hax's keys can be read and written. Nothing is written.
pub(super) async fn keys_of_hax<P: Platform>(
    settings: &Settings,
    client: &P::Client,
    who: &Identity,
) -> Result<((), String), String> {
    let (mut unread, mut unwritten) = (Vec::new(), Vec::new());
    let keys = keys(settings, who);
    for key in keys.iter().map(String::as_str).chain(["ssl/hax"]) {
        let answer = get::<P>(settings, client, &format!("/v1/kv/{key}"), ANSWER_MAX).await?;
        match answer.status {
            200 | 404 => {}
            403 => unread.push(key),
            _ => return Err(refused(client, &answer)),
        }
    }
    for key in &keys {
        let target = format!("/v1/kv/{key}{NEVER}");
        let answer = send::<P>(settings, client, Method::Put, &target, ANSWER_MAX).await?;
        match answer.status {
            200 => {}
            403 => unwritten.push(key.as_str()),
            _ => return Err(refused(client, &answer)),
        }
    }
    let mut wrong = Vec::new();
    if !unwritten.is_empty() {
        let keys = unwritten.join(", ");
        wrong.push(format!("may not write {keys}: hax could acknowledge nothing"));
    }
    if !unread.is_empty() {
        wrong.push(format!("may not read {}", unread.join(", ")));
    }
    if wrong.is_empty() {
        return Ok(((), "what hax reads and writes may be read and written".into()));
    }
    let (whose, wrong) = (whose(settings), wrong.join("; "));
    Err(format!("{whose} {wrong}; docs/OPERATE.md has the policy"))
}

/// Checks whether hax may take part in the election: create a session, and register a service for its check.
/// Both are created and removed at once.
pub(super) async fn election<P: Platform>(
    settings: &Settings,
    client: &P::Client,
) -> Result<((), String), String> {
    let mut denied = Vec::new();
    let put = async |target: &str, body: &'static str| {
        let body = Bytes::from_static(body.as_bytes());
        send_body::<P>(settings, client, Method::Put, target, body, ANSWER_MAX).await
    };
    let made = put("/v1/session/create", SESSION).await?;
    match made.status {
        200 => {
            let made: Value = serde_json::from_slice(&made.body).unwrap_or_default();
            let id = made["ID"].as_str().filter(|id| is_id(id));
            let id =
                id.ok_or("Consul makes a session without an ID: is it Consul that answers?")?;
            if put(&format!("/v1/session/destroy/{id}"), "").await?.status != 200 {
                denied.push("end its session");
            }
        }
        403 => denied.push("have a session (session_prefix \"\", write)"),
        _ => return Err(refused(client, &made)),
    }
    let made = put("/v1/agent/service/register", SERVICE).await?;
    match made.status {
        200 => {
            if put("/v1/agent/service/deregister/hax-check", "").await?.status != 200 {
                denied.push("take its service away");
            }
        }
        403 => denied.push("register the service hax-leader (service \"hax-leader\", write)"),
        _ => return Err(refused(client, &made)),
    }
    if denied.is_empty() {
        return Ok(((), "the token may create sessions and the service hax-leader".into()));
    }
    let (whose, denied) = (whose(settings), denied.join(", nor "));
    Err(format!(
        "{whose} may not {denied}: this hax could not lead (--no-elect does without); docs/OPERATE.md \
         has the policy"
    ))
}

fn is_id(id: &str) -> bool {
    id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

async fn json<P: Platform>(
    settings: &Settings,
    client: &P::Client,
    target: &str,
) -> Result<Value, String> {
    let answer = get::<P>(settings, client, target, settings.consul.answer_max).await?;
    if answer.status != 200 {
        return Err(refused(client, &answer));
    }
    serde_json::from_slice(&answer.body)
        .map_err(|why| format!("Consul's answer to {target} is not understood: {why}"))
}
