//! The tokens for Google Cloud: of this machine's service account, or of the account of a key file.

use std::path::Path;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use hax_core::route::cloud::gcp::login::{self, Account};

use super::url::Base;
use super::{Client, sign, variable};
use crate::commands::bounded;
use crate::host::clock;

/// The variable that names the key file, as in Google's own tools.
const FILE: &str = "GOOGLE_APPLICATION_CREDENTIALS";

/// The maximum length of a key file, in bytes.
const FILE_MAX: u64 = 64 << 10;

/// Obtains a token. Returns it with its lifetime in seconds.
pub(super) fn token(client: &mut Client) -> anyhow::Result<(String, u64)> {
    let reply = match variable(FILE) {
        Some(path) => {
            let text = bounded::text(Path::new(&path), FILE_MAX).context(FILE)?;
            let account = login::of_file(&text).map_err(anyhow::Error::msg);
            of_account(client, &account.with_context(|| format!("{FILE}: {path}"))?)?
        }
        None => {
            let what = "the machine's service account (without GOOGLE_APPLICATION_CREDENTIALS)";
            let reply = client.ask_metadata(&login::of_machine()).context(what)?;
            if reply.header("metadata-flavor") != Some("Google") {
                bail!("{what}: the reply is not of Google's metadata server");
            }
            reply
        }
    };
    login::read(&reply).map_err(anyhow::Error::msg)
}

fn of_account(
    client: &mut Client,
    account: &Account,
) -> anyhow::Result<hax_core::route::cloud::http::Reply> {
    let (base, path) = account.place();
    let base = Base::new(base).and_then(Base::confidential).context("token_uri")?;
    let claims = account.claims(clock::wall().0 / 1_000_000_000);
    let text = [login::JWT_HEADER, &claims].map(|part| BASE64.encode(part)).join(".");
    let signature = sign::rs256(&account.private_key, &text).context("private_key")?;
    let assertion = format!("{text}.{}", BASE64.encode(signature));
    client.is_secret(&assertion);
    client.ask_at(&base, &login::of_account(path, &assertion))
}
