//! `hax route serve`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_lite::future::or;
use hax_core::machine::Machine as _;
use hax_core::route::{Config, ConsulConfig, Rules, Server, WithoutConsul};

use super::ServeArgs;
use crate::commands::block_on;
use crate::exit::{CommandError, Exit};
use crate::fifo::Folder;
use crate::host::clock::{self, Clock};
use crate::host::drive::{HostContext, Sockets, drive};
use crate::host::platform::{Client as _, Platform};
use crate::host::signals::Signals;
use crate::http::{HttpAccess, Limits};
use crate::net::listen;
use crate::observe::metrics::Metrics;
use crate::observe::{logs, notify};
use crate::settings::Settings;
use crate::settings::values::HostPort;

/// The time limit for the body of an HTTP request. No request that the server handles has a body.
const BODY_WITHIN: Duration = Duration::from_secs(5);

/// Runs the server until it is stopped.
pub(super) fn serve<P: Platform>(args: &ServeArgs) -> Result<Exit, CommandError> {
    logs::init(args.log.unwrap_or_default(), args.log_level.unwrap_or_default());
    block_on::<P>(async {
        let signals = P::signals(false).context("signals")?;
        let ended = async {
            signals.end().await;
            Ok(Exit::Interrupted)
        };
        or(ended, run::<P>(args, &signals)).await
    })
}

async fn run<P: Platform>(args: &ServeArgs, signals: &Signals) -> Result<Exit, CommandError> {
    let listen = |why| CommandError(Exit::Listen, why);
    let usage = |why| CommandError(Exit::Usage, why);
    let (consul, settings) =
        (args.consul.config().map_err(usage)?, args.consul.settings().map_err(usage)?);
    let folder = Folder::serve(&args.dir).map_err(|why| listen(why.into()))?;
    let mut server = Server::new(config(args, consul)?);
    let sockets = match &args.http {
        Some(at) => Some(sockets::<P>(at).await.map_err(listen)?),
        None => None,
    };
    let http = args.http.as_ref().map(ToString::to_string);
    let dir = args.dir.display();
    let context = context::<P>(&settings, folder)?;
    tracing::info!(target: "hax", %dir, http = http.unwrap_or_default(), "hax route serves");
    notify::ready();
    drive::<P, _>(context, signals, sockets, &mut server).await;
    // The server may have ended before its orderly shutdown. The log has the reason.
    let has_served = server.status().stopping && !server.is_unusable();
    Ok(if has_served { Exit::Clean } else { Exit::Failure })
}

fn config(args: &ServeArgs, consul: Option<ConsulConfig>) -> anyhow::Result<Config> {
    let text = |path: &Path| -> anyhow::Result<Box<str>> {
        let path = path.canonicalize().with_context(|| path.display().to_string())?;
        let text = path.to_str().with_context(|| format!("{path:?} is no text"))?;
        Ok(text.into())
    };
    let program = std::env::current_exe().context("the path of this program")?;
    let rule = |rule| match rule {
        super::WithoutConsul::Act => WithoutConsul::Act,
        super::WithoutConsul::Hold => WithoutConsul::Hold,
    };
    Ok(Config {
        dir: text(&args.dir)?,
        program: text(&program)?,
        env: args.consul.env(),
        default_provider: args.provider,
        consul,
        rules: Rules { ungrouped: rule(args.ungrouped), grouped: rule(args.grouped) },
        sweep: args.sweep.0,
        seed: clock::wall().0,
    })
}

async fn sockets<P: Platform>(at: &HostPort) -> anyhow::Result<Sockets<P::Listener>> {
    let found = P::lookup(&at.host, at.port).await;
    let listener = P::listener(listen::http(&at.host, at.port, found)?)?;
    let (later, http) = async_channel::unbounded();
    // The channel has room and a receiver, so the send succeeds.
    let _ = later.try_send(listener);
    let access = Arc::new(HttpAccess::open());
    Ok(Sockets::of_http(http, access))
}

fn context<P: Platform>(
    settings: &Settings,
    folder: Folder,
) -> anyhow::Result<HostContext<P::Client>> {
    let clock = Clock::new();
    let metrics = Arc::new(Metrics::of::<Server>(clock));
    let client = Arc::new(P::Client::new(&settings.consul)?);
    let body_max = settings.http.body_max;
    let limits = Limits {
        body_max,
        bodies_max: body_max.saturating_mul(2),
        connections_max: settings.http.connections_max,
        // The server has no streaming responses.
        streams_max: 0,
        body_within: BODY_WITHIN,
    };
    let context = HostContext::new(clock, metrics, client, limits);
    Ok(HostContext { folder: Some(folder), ..context })
}
