//! The Consul settings of `hax route serve` and its event handlers.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Parser};
use hax_core::route::ConsulConfig;

use crate::settings::Settings;
use crate::settings::flags::Flags;
use crate::settings::url::ConsulUrl;
use crate::settings::values::{Span, Switch};

/// Consul, as the flags have it.
#[derive(Clone, Debug, Args)]
pub struct ConsulArgs {
    /// The local Consul agent: http://HOST:PORT, https://HOST:PORT or unix:///PATH. Without it nothing is asked
    /// of Consul, and nodes do as --ungrouped and --grouped say.
    #[arg(long, env = "HAX_CONSUL", value_name = "URL", help_heading = "Consul")]
    pub consul: Option<ConsulUrl>,
    /// File with the ACL token for Consul [default: $CONSUL_HTTP_TOKEN_FILE, or the token in
    /// $CONSUL_HTTP_TOKEN].
    #[arg(long, env = "HAX_CONSUL_TOKEN_FILE", value_name = "FILE", help_heading = "Consul")]
    pub consul_token_file: Option<PathBuf>,
    /// Certificate authorities to trust for https://, PEM [default: $CONSUL_CACERT, or the machine's].
    #[arg(long, env = "HAX_CONSUL_CA_FILE", value_name = "FILE", help_heading = "Consul")]
    pub consul_ca_file: Option<PathBuf>,
    /// Our own certificate, PEM, for a Consul with verify_incoming [default: $CONSUL_CLIENT_CERT].
    #[arg(long, env = "HAX_CONSUL_CERT", value_name = "FILE", help_heading = "Consul")]
    pub consul_cert: Option<PathBuf>,
    /// Its private key, PEM [default: $CONSUL_CLIENT_KEY].
    #[arg(long, env = "HAX_CONSUL_KEY", value_name = "FILE", help_heading = "Consul")]
    pub consul_key: Option<PathBuf>,
    /// This router's name; the other router of the pair has another one [default: the host's name].
    #[arg(long, env = "HAX_ROUTE_NAME", value_name = "NAME", help_heading = "Consul")]
    pub name: Option<String>,
    /// How long this router acts without a new proof that it holds the lease of a group; so long the other one
    /// waits when it is gone: 1s to 60s.
    #[arg(long, env = "HAX_ROUTE_HOLD", value_name = "TIME", default_value = "5s",
        value_parser = hold, help_heading = "Consul")]
    pub hold: Span,
    /// How long a primary has to be well until it takes its routes back.
    #[arg(
        long,
        env = "HAX_ROUTE_REVERT_AFTER",
        value_name = "TIME",
        default_value = "60s",
        help_heading = "Consul"
    )]
    pub revert_after: Span,
    /// Whether a primary that is well asks for the lease of its groups.
    #[arg(
        long,
        env = "HAX_ROUTE_PREEMPT",
        value_name = "on|off",
        default_value = "on",
        help_heading = "Consul"
    )]
    pub preempt: Switch,
    /// The other router's service: when its checks are critical that is a peerFail here, and a revert when this
    /// router has been well for --revert-after.
    #[arg(long, env = "HAX_ROUTE_WATCH_PEER", value_name = "SERVICE", help_heading = "Consul")]
    pub watch_peer: Option<String>,
}

fn hold(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|why| format!("{why}"))?;
    if (Duration::from_secs(1)..=Duration::from_secs(60)).contains(&span.0) {
        return Ok(span);
    }
    Err("expected 1s to 60s: so long Consul keeps a lock back".into())
}

#[derive(Parser)]
struct OfEnvironment {
    #[command(flatten)]
    consul: ConsulArgs,
}

impl ConsulArgs {
    /// Parses the settings from the environment variables of this process.
    pub(super) fn of_environment() -> anyhow::Result<Self> {
        Ok(OfEnvironment::try_parse_from(["hax"])?.consul)
    }

    /// Loads all settings. These flags take precedence over the environment variables of Consul's own tools.
    pub(super) fn settings(&self) -> anyhow::Result<Settings> {
        let flags = Flags {
            consul: self.consul.clone(),
            consul_token_file: self.consul_token_file.clone(),
            consul_ca_file: self.consul_ca_file.clone(),
            consul_cert: self.consul_cert.clone(),
            consul_key: self.consul_key.clone(),
            ..Flags::default()
        };
        let settings = Settings::load(None, flags, |name| std::env::var(name).ok());
        settings.map_err(|why| anyhow!(why))
    }

    /// Returns the environment from which event handlers get the variables of their providers. The flags take
    /// precedence over the server's own variables.
    pub(super) fn env(&self) -> Box<[(Box<str>, Box<str>)]> {
        let text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let mut env: Vec<(String, String)> = std::env::vars_os().filter_map(text).collect();
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        for (name, value) in [
            ("HAX_CONSUL", self.consul.as_ref().map(ToString::to_string)),
            ("HAX_CONSUL_TOKEN_FILE", path(&self.consul_token_file)),
            ("HAX_CONSUL_CA_FILE", path(&self.consul_ca_file)),
            ("HAX_CONSUL_CERT", path(&self.consul_cert)),
            ("HAX_CONSUL_KEY", path(&self.consul_key)),
        ] {
            if let Some(value) = value {
                env.retain(|(given, _)| given != name);
                env.push((name.into(), value));
            }
        }
        env.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    /// Returns the configuration of the server for Consul, if one is given.
    pub(super) fn config(&self) -> anyhow::Result<Option<ConsulConfig>> {
        if self.consul.is_none() {
            if self.watch_peer.is_some() {
                bail!("--watch-peer needs --consul");
            }
            return Ok(None);
        }
        let name = match &self.name {
            Some(name) => name.clone(),
            None => hostname().context("this host's name; give --name")?,
        };
        Ok(Some(ConsulConfig {
            name: name.into(),
            hold: self.hold.0,
            revert_after: self.revert_after.0,
            preempt: self.preempt == Switch::On,
            peer: self.watch_peer.clone().map(Into::into),
        }))
    }
}

fn hostname() -> anyhow::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned();
    if name.is_empty() {
        bail!("it has none");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_held_no_longer_than_consul_keeps_its_lock_back() {
        for good in ["1s", "60s", "1500ms"] {
            hold(good).unwrap();
        }
        for bad in ["999ms", "60001ms", "60.999s", "0s", "x"] {
            let why = hold(bad).unwrap_err();
            assert!(!why.is_empty(), "{bad}");
        }
    }
}
