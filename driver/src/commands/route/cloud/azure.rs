//! The tokens for Azure: of this machine's managed identity, or of an application.

use std::path::Path;

use anyhow::{Context as _, bail};
use hax_core::route::cloud::azure::login::{self, Application};
use hax_core::route::job::Job;
use hax_core::route::provider::Cloud;

use super::url::Base;
use super::{Client, variable};
use crate::commands::bounded;

/// The maximum length of a file with a key, in bytes.
const KEY_MAX: u64 = 64 << 10;

/// Obtains a token. Returns it with its lifetime in seconds.
pub(super) fn token(client: &mut Client, job: &Job, cloud: Cloud) -> anyhow::Result<(String, u64)> {
    let of = |name: &str| job.parameters.get(name).map(|value| &**value);
    let reply = match of("appId") {
        None => {
            let ask = login::of_identity(cloud);
            client.ask_metadata(&ask).context("the managed identity (without -a)")?
        }
        Some(id) => {
            let tenant = of("tenantId").context("the node lacks -d")?;
            let key = key(of("appKey").context("the node lacks -k")?).context("-k")?;
            client.is_secret(&key);
            let base = match variable("HAX_AZURE_LOGIN_URL") {
                Some(text) => Base::new(&text).and_then(Base::confidential),
                None => Base::new(login::authority(cloud)),
            };
            let application = Application { tenant, id, key: &key };
            let ask = login::of_application(cloud, application);
            client.ask_at(&base.context("HAX_AZURE_LOGIN_URL")?, &ask)?
        }
    };
    login::read(&reply).map_err(anyhow::Error::msg)
}

/// Reads an application's key from its place.
fn key(place: &str) -> anyhow::Result<String> {
    let text = if let Some(path) = place.strip_prefix("file:") {
        bounded::text(Path::new(path), KEY_MAX)?
    } else if let Some(name) = place.strip_prefix("env:") {
        variable(name).with_context(|| format!("the server has no environment variable {name}"))?
    } else {
        bail!("a secret is given by reference: file:/PATH or env:NAME");
    };
    let key = text.trim();
    if key.is_empty() || key.chars().any(char::is_control) {
        bail!("{place} has no key: expected one line of text");
    }
    Ok(key.to_owned())
}
