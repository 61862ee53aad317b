//! `hax check`: a line for each prerequisite of hax.

mod rights;
mod stored;
mod watch_path;

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use bytes::Bytes;
use hax_core::cluster::conf::{Conf, Contradiction};
use hax_core::consul::port::{Answer, Method};
use hax_core::discover::Identity;
#[cfg(feature = "libmotr")]
use hax_core::discover::Services;

use super::remote::{self, Remote};
use crate::daemon::transport::{self, Transport};
use crate::daemon::{TlsChoice, names, tls_choice};
use crate::exit::Exit;
use crate::host::platform::{Client, Platform};
use crate::host::timer::within;
use crate::http::HttpAccess;
use crate::net::listen;
use crate::observe::printable::printable;
use crate::settings::consul::ConsulSettings;
use crate::settings::secret::SecretSource;
use crate::settings::url::ConsulUrl;
use crate::settings::{self, Settings};

/// The maximum length of a response, in bytes; keys and services of one kind are few.
const ANSWER_MAX: usize = 4 << 20;

/// The report, printed line by line.
struct Report<'a, W> {
    out: &'a mut W,
    failed: bool,
}

impl<W: Write> Report<'_, W> {
    /// Prints a line; returns the value of a successful check.
    fn line<T>(&mut self, what: &str, found: Result<(T, String), String>) -> io::Result<Option<T>> {
        match found {
            Ok((value, text)) => {
                writeln!(self.out, "ok    {}", printable(&format!("{what}: {text}")))?;
                Ok(Some(value))
            }
            Err(why) => {
                self.failed = true;
                let why: Vec<_> = why.lines().map(printable).collect();
                writeln!(self.out, "FAIL  {}: {}", printable(what), why.join("\n"))?;
                Ok(None)
            }
        }
    }
}

impl<W: Write> Report<'_, W> {
    /// Reports contradictions in the configuration: hax serves with the valid part of it.
    fn contradictions(&mut self, conf: Option<&Conf>) -> io::Result<()> {
        for Contradiction { kept, other, why } in conf.into_iter().flat_map(Conf::contradictions) {
            let keys = format!("{kept} and {other} contradict each other");
            let keys = printable(&keys);
            writeln!(self.out, "note  configuration: {keys}: {why}; delete the left-over")?;
        }
        Ok(())
    }
}

/// Runs all checks and reports the failed ones.
pub(super) async fn run<P: Platform>(
    settings: Result<Settings, settings::Errors>,
    out: &mut impl Write,
) -> anyhow::Result<Exit> {
    let mut report = Report { out, failed: false };
    let settings = settings.map(|settings| (settings, "flags, variables and file fit".into()));
    let settings = settings.map_err(|why| why.to_string());
    if let Some(settings) = report.line("settings", settings)? {
        for warning in &settings.warnings {
            writeln!(report.out, "note  settings: {warning}")?;
        }
        check::<P>(&settings, &mut report).await?;
    }
    Ok(if report.failed { Exit::Failure } else { Exit::Clean })
}

async fn check<P: Platform>(
    settings: &Settings,
    report: &mut Report<'_, impl Write>,
) -> anyhow::Result<()> {
    let client = P::Client::new(&settings.consul).map_err(|why| why.to_string());
    let client = client.map(|client| (client, way(&settings.consul)));
    let Some(client) = report.line("files for Consul", client)? else { return Ok(()) };
    let client = Arc::new(client);
    if settings.consul.datacenter.is_some() {
        let found = rights::datacenter::<P>(settings, &client).await;
        if report.line("datacenter", found)?.is_none() {
            return Ok(());
        }
    }
    if report.line("Consul", consul::<P>(settings, &client).await)?.is_none() {
        return Ok(());
    }
    if let Some(token) = &settings.consul.token {
        let what = format!("token of {token}");
        if report.line(&what, accepted::<P>(settings, &client).await)?.is_none() {
            return Ok(());
        }
    }
    for token in [&settings.consul.token, &settings.http.token].into_iter().flatten() {
        if let Some(who) = readers(token) {
            writeln!(report.out, "note  token of {token}: {who} can read it")?;
        }
    }
    let conf = report.line("configuration", stored::configuration::<P>(settings, &client).await)?;
    report.contradictions(conf.as_ref())?;
    report.line("processes", stored::words::<P>(settings, &client).await)?;
    let mut skipped = Vec::new();
    let who = remote::who::<P>(settings, Arc::clone(&client), &mut skipped).await.map(|who| {
        let (node, fid, motr) = (&who.node, who.fid, &who.endpoint);
        let text = format!("process {fid} on node {node} with the Motr endpoint {motr}");
        (who, text)
    });
    let Some(who) = report.line("hax's entry", who)? else { return Ok(()) };
    if let Some(conf) = conf {
        report.line("hax's process", stored::process(&conf, &who))?;
    }
    report.line("permission", rights::keys_of_hax::<P>(settings, &client, &who).await)?;
    report.line("sight", rights::sight::<P>(settings, &client, &who).await)?;
    if settings.bridge.elect {
        report.line("election", rights::election::<P>(settings, &client).await)?;
    }
    let http_access = match skipped.first() {
        Some(key) => Err(format!(
            "the key {key} is not of the expected form: HTTP would be plain whatever it asks for"
        )),
        None => http_access(settings, &who),
    };
    report.line("HTTP", http_access)?;
    let running = is_running::<P>(settings, &who, report).await?;
    report.line("address", motr::<P>(settings, &client, &who, running).await)?;
    let at = format!("HTTP at {}:{}", who.http_host, who.http_port);
    let found = P::lookup(&who.http_host, who.http_port).await;
    let http = listen::http(&who.http_host, who.http_port, found);
    report.line("address", bindable(http, at, running))?;
    watches::<P>(settings, &who, running, report).await?;
    Ok(())
}

/// Checks whether Motr's processes can connect where they expect hax.
async fn motr<P: Platform>(
    settings: &Settings,
    client: &Arc<P::Client>,
    who: &Identity,
    running: bool,
) -> Result<((), String), String> {
    match transport::choose(settings, &who.endpoint) {
        #[cfg(feature = "libmotr")]
        Ok(Transport::Library(library)) => {
            let (endpoint, version) = (&who.endpoint, library.version());
            let services = remote::services::<P>(client, who).await;
            services.map(|Services { ha, rm }| {
                let what = format!("Motr's library {version} is loaded, for {endpoint}");
                ((), format!("{what} with the services {ha} (ha) and {rm} (rms)"))
            })
        }
        Ok(Transport::Wire(address)) => {
            let at = format!("Motr's processes at {address}");
            bindable(listen::motr(address), at, running)
        }
        Err(why) => Err(why.to_string()),
    }
}

/// Checks whether hax listens where Consul's watches post. An address in the settings is the operator's
/// responsibility.
async fn watches<P: Platform>(
    settings: &Settings,
    who: &Identity,
    running: bool,
    report: &mut Report<'_, impl Write>,
) -> io::Result<()> {
    if settings.http.at.is_some() {
        return Ok(());
    }
    match names::addresses::<P>(&who.node, who.http_port).await {
        Ok(found) => {
            report.line(
                "watches",
                watch_path::check_watch_path::<P>(settings, who, &found, running).await,
            )?;
        }
        // A node whose watches post to an address needs no name.
        Err(why) => writeln!(report.out, "note  watches: {why}")?,
    }
    Ok(())
}

/// Describes the access to Consul.
fn way(consul: &ConsulSettings) -> String {
    let url = &consul.url;
    let how = match (url, consul.tls.verify, &consul.tls.cert) {
        (ConsulUrl::Https(_), false, _) => "TLS without verification",
        (ConsulUrl::Https(_), true, None) => "TLS",
        (ConsulUrl::Https(_), true, Some(_)) => "TLS with a certificate of our own",
        (ConsulUrl::Http(_), ..) => "plain HTTP",
        (ConsulUrl::Unix(_), ..) => "a unix socket",
    };
    let token = if consul.token.is_some() { "a token" } else { "no token" };
    format!("{url} by {how}, with {token}")
}

/// Sends a request to Consul; an error has the same text as in the daemon's log.
async fn send<P: Platform>(
    settings: &Settings,
    client: &P::Client,
    method: Method,
    target: &str,
    max: usize,
) -> Result<Answer, String> {
    send_body::<P>(settings, client, method, target, Bytes::new(), max).await
}

async fn send_body<P: Platform>(
    settings: &Settings,
    client: &P::Client,
    method: Method,
    target: &str,
    body: Bytes,
    max: usize,
) -> Result<Answer, String> {
    let answer = client.send(method, target, body, max);
    match within::<P, _>(settings.consul.timeout, answer).await {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(why)) => Err(client.problem().unwrap_or_else(|| why.why().into())),
        None => Err("no answer in time; does the agent hang (--consul-timeout)?".into()),
    }
}

async fn get<P: Platform>(
    settings: &Settings,
    client: &P::Client,
    target: &str,
    max: usize,
) -> Result<Answer, String> {
    send::<P>(settings, client, Method::Get, target, max).await
}

/// Returns the error text for an unexpected response.
fn refused(client: &impl Client, answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body[..answer.body.len().min(200)]);
    let hint = if text.contains("No path to datacenter") { " (--consul-datacenter)" } else { "" };
    let status = || format!("status {}: {}{hint}", answer.status, text.trim());
    client.problem().unwrap_or_else(status)
}

async fn consul<P: Platform>(
    settings: &Settings,
    client: &P::Client,
) -> Result<((), String), String> {
    let answer = get::<P>(settings, client, "/v1/status/leader", ANSWER_MAX).await?;
    match (answer.status, answer.body.trim_ascii()) {
        (200, b"\"\"") => Err("it answers, but has no leader: are enough servers up?".into()),
        (200, leader) => {
            let leader = String::from_utf8_lossy(leader);
            Ok(((), format!("answers, its leader is {}", leader.trim_matches('"'))))
        }
        _ => Err(refused(client, &answer)),
    }
}

/// Checks the token. Consul responds with 401 if its ACLs are off.
async fn accepted<P: Platform>(
    settings: &Settings,
    client: &P::Client,
) -> Result<((), String), String> {
    let answer = get::<P>(settings, client, "/v1/acl/token/self", ANSWER_MAX).await?;
    match answer.status {
        200 => Ok(((), "accepted".into())),
        401 => Ok(((), "not checked, Consul's ACLs are off".into())),
        _ => Err(refused(client, &answer)),
    }
}

/// Checks the certificate and the token of the HTTP port.
fn http_access(settings: &Settings, who: &Identity) -> Result<((), String), String> {
    let files = match tls_choice(settings, who) {
        TlsChoice::Plain => None,
        TlsChoice::Files(files) => Some(files),
        TlsChoice::Missing(tls) => {
            return Err(format!(
                "the key ssl/hax asks for TLS, but {} or {} is missing: HTTP would be plain",
                tls.cert, tls.key
            ));
        }
    };
    let text = files.as_ref().map(|files| format!("TLS with {}", files.cert.display()));
    let text = text.unwrap_or_else(|| "without TLS".into());
    let token = if settings.http.token.is_some() { "a token" } else { "no token" };
    let http_access =
        HttpAccess::new(files, settings.http.token.clone()).map_err(|why| why.to_string());
    http_access.map(|_| ((), format!("{text}, {token} is demanded")))
}

/// Returns whether a running hax listens there: then its ports are in use as expected. A hax that serves HTTP
/// with TLS instead of without, or the reverse, counts too.
async fn is_running<P: Platform>(
    settings: &Settings,
    who: &Identity,
    report: &mut Report<'_, impl Write>,
) -> io::Result<bool> {
    let Ok(hax) = Remote::of(settings, who) else { return Ok(false) };
    if hax.is_alive::<P>().await {
        return Ok(true);
    }
    let is_there = hax.in_the_other_way().is_alive::<P>().await;
    if is_there {
        report.line::<()>("HTTP", Err(hax.other_way_than_asked()))?;
    }
    Ok(is_there)
}

/// Returns the other readers of a secret file, if it is not hax's alone.
fn readers(secret: &SecretSource) -> Option<&'static str> {
    let SecretSource::File(_, path) = secret else { return None };
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o004 != 0).then_some("everybody on this machine")
}

/// Checks whether a socket can be bound; it is closed at once.
fn bindable<T>(
    socket: Result<T, listen::Error>,
    what: String,
    running: bool,
) -> Result<((), String), String> {
    match socket {
        Ok(_) => Ok(((), format!("{what}: free"))),
        Err(why) if why.is_in_use() && running => {
            Ok(((), format!("{what}: in use, by the hax that runs")))
        }
        Err(why) => Err(why.to_string()),
    }
}
