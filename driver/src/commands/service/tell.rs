//! `hax service tell`: what a service instance says of itself.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use hax_core::base::time::Instant;
use hax_core::services::TELL_PATH;
use http::Method;
use serde_json::{Value, json};

use super::hax::{Hax, Said};
use super::{print, write};
use crate::exit::{CommandError, Exit};
use crate::host::clock::Clock;
use crate::host::platform::Platform;
use crate::host::timer;
use crate::settings::values::Span;

/// The time by which an answer may be late.
const LATE: Duration = Duration::from_secs(1);

/// The pause before a hax is asked again that is just being restarted.
const PAUSE: Duration = Duration::from_millis(200);

/// `hax service tell`.
#[derive(Debug, Args)]
pub struct TellArgs {
    /// What is told.
    #[command(subcommand)]
    what: Told,
    /// How long to wait until Consul holds it, 5m at most; hax may be restarting meanwhile.
    #[arg(long, value_name = "TIME", default_value = "30s", global = true)]
    within: Span,
    /// Print hax's answer as JSON.
    #[arg(long, global = true)]
    json: bool,
}

/// What is told.
#[derive(Debug, Subcommand)]
enum Told {
    /// The instance is ready: of a type with ready = "notify".
    Ready,
    /// The instance holds a resource from now on.
    Acquired {
        /// The resource; its kind is one of the type's schema.
        #[arg(value_name = "KIND/NAME")]
        resource: String,
        /// Other instances may hold it, too.
        #[arg(long)]
        shared: bool,
    },
    /// The instance does not hold a resource any more.
    Released {
        /// The resource.
        #[arg(value_name = "KIND/NAME")]
        resource: String,
    },
    /// The instance has changed its configuration by itself.
    Config {
        /// The name of the new configuration: 1 to 64 letters, digits and -_.:@.
        #[arg(value_name = "REVISION")]
        revision: String,
    },
    /// The instance has failed.
    Failed {
        /// The reason.
        #[arg(value_name = "WHY")]
        why: String,
        /// Wait for the coordinator, and print what is to become of the instance: restart, continue or stop.
        #[arg(long)]
        wait: bool,
    },
    /// The instance is about to end, which is no failure.
    Stopping {
        /// The reason.
        #[arg(value_name = "WHY", default_value = "")]
        why: String,
    },
}

impl Told {
    /// Returns what is told as JSON.
    fn body(&self) -> Result<Value, CommandError> {
        let of = |resource: &str| {
            let parts =
                resource.split_once('/').map(|(kind, name)| (kind.to_owned(), name.to_owned()));
            parts.ok_or_else(|| {
                CommandError(
                    Exit::Usage,
                    anyhow!("{resource:?} is no resource: KIND/NAME is expected"),
                )
            })
        };
        Ok(match self {
            Self::Ready => json!("ready"),
            Self::Acquired { resource, shared } => {
                let (kind, name) = of(resource)?;
                json!({ "acquired": { "kind": kind, "name": name, "shared": shared } })
            }
            Self::Released { resource } => {
                let (kind, name) = of(resource)?;
                json!({ "released": { "kind": kind, "name": name } })
            }
            Self::Config { revision } => json!({ "config": { "revision": revision } }),
            Self::Failed { why, wait } => json!({ "failed": { "why": why, "ask": wait } }),
            Self::Stopping { why } => json!({ "stopping": { "why": why } }),
        })
    }
}

/// Returns a variable that the keeper sets for instances.
fn variable(name: &str) -> Result<String, CommandError> {
    std::env::var(name).map_err(|_| {
        let why = anyhow!(
            "{name} is not set: this is for the processes of a service instance, which hax starts with it"
        );
        CommandError(Exit::Usage, why)
    })
}

/// Tells it, again while hax does not answer.
pub(super) async fn tell<P: Platform>(args: &TellArgs) -> Result<Exit, CommandError> {
    let (socket, instance) = (variable("HAX_SOCKET")?, variable("HAX_INSTANCE")?);
    let within = args.within.0;
    let hax = Hax::at(PathBuf::from(socket));
    let secs = within.as_secs().max(1);
    let body =
        json!({ "instance": instance, "tell": args.what.body()?, "wait_s": secs }).to_string();
    let (clock, begun) = (Clock::new(), Instant::default());
    let said = loop {
        let asked = (Method::POST, TELL_PATH);
        let left = within.saturating_sub(clock.now().mono.since(begun));
        // hax answers itself when the time is over, unless it is away or stopped.
        let told =
            timer::within::<P, _>(left + LATE, hax.said::<P>(asked, body.clone().into(), within));
        let said = told.await.unwrap_or_else(|| Err(anyhow!("hax does not answer in time")));
        let is_away = matches!(&said, Err(_) | Ok(Said { status: 503, .. }));
        if !is_away {
            break said?;
        }
        if clock.now().mono.since(begun) + PAUSE > within {
            let why = said.map_or_else(|why| why, |said| anyhow!(said.reason(&hax.place())));
            return Err(CommandError(Exit::UnderWay, why));
        }
        P::sleep(PAUSE).await;
    };
    match said.status {
        200 => print(&said.body, args.json, text),
        202 => {
            let state = said.body["state"].as_str().unwrap_or("under way").to_owned() + "\n";
            if args.json {
                print(&said.body, true, text)?
            } else {
                write(&state).map(|()| Exit::Clean)?
            };
            Ok(Exit::UnderWay)
        }
        _ => Err(anyhow!(said.reason(&hax.place())).into()),
    }
}

/// Returns the coordinator's answer in a line; nothing if none was asked for.
fn text(body: &Value) -> String {
    match (body["answer"].as_str(), body["after_ms"].as_u64()) {
        (Some(word), Some(ms)) => format!("{word} after {ms} ms\n"),
        (Some(word), None) => format!("{word}\n"),
        (None, _) => String::new(),
    }
}
