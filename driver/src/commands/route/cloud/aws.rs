//! The credentials of AWS and the signature of its requests.

use anyhow::{Context as _, bail};
use hax_core::route::cloud::aws::credentials::{self, Credentials};
use hax_core::route::cloud::aws::sign::Scope;
use hax_core::route::cloud::http::Ask;
use hax_core::route::cloud::time;
use hax_core::route::job::{Job, Token};

use super::url::Base;
use super::{Client, sign, variable};
use crate::commands::bounded;
use crate::host::clock;

/// The maximum length of a credentials file, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// The authentication of requests.
#[derive(Debug)]
pub(super) struct Login {
    credentials: Credentials,
    region: Box<str>,
}

impl Login {
    /// Finds the credentials: in the environment, in a file, from an earlier handler, or at the instance's
    /// metadata service.
    pub(super) fn new(client: &mut Client, job: &Job, kept: Option<Token>) -> anyhow::Result<Self> {
        let region = job.parameters.get("region").context("the node lacks -rg")?.clone();
        let credentials = match configured()? {
            Some(credentials) => {
                client.is_kept = false;
                credentials
            }
            None => match kept.and_then(|token| serde_json::from_str(&token.value).ok()) {
                Some(credentials) => credentials,
                None => of_instance(client)?,
            },
        };
        client.is_secret(&credentials.secret);
        client.is_secret(credentials.token.as_deref().unwrap_or_default());
        Ok(Self { credentials, region })
    }

    /// Returns the header fields of authentication.
    pub(super) fn headers(&self, base: &Base, ask: &Ask) -> Vec<(&'static str, String)> {
        let time = time::compact(clock::wall());
        let mut headers = vec![("host", base.authority().to_owned()), ("x-amz-date", time.clone())];
        if let Some(token) = &self.credentials.token {
            headers.push(("x-amz-security-token", (&**token).into()));
        }
        let scope = Scope { time: &time, region: &self.region, service: "ec2" };
        let texts: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let authorization = sign::aws(ask, &texts, &self.credentials, &scope);
        headers.push(("authorization", authorization));
        headers
    }
}

/// Returns the credentials of the environment, or of the file that it names.
fn configured() -> anyhow::Result<Option<Credentials>> {
    let [key, secret] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(variable);
    let token = variable("AWS_SESSION_TOKEN").map(Into::into);
    match (key, secret) {
        (Some(key), Some(secret)) => {
            return Ok(Some(Credentials { key: key.into(), secret: secret.into(), token }));
        }
        (None, None) => {}
        _ => bail!("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are given together"),
    }
    let Some(path) = variable("AWS_SHARED_CREDENTIALS_FILE") else { return Ok(None) };
    let text = bounded::text(path.as_ref(), FILE_MAX).context("AWS_SHARED_CREDENTIALS_FILE")?;
    let profile = variable("AWS_PROFILE").unwrap_or_else(|| "default".into());
    let found = credentials::of_file(&text, &profile).map_err(anyhow::Error::msg);
    found.with_context(|| path).map(Some)
}

/// Returns the credentials of the instance's role, and keeps them for the next handlers.
fn of_instance(client: &mut Client) -> anyhow::Result<Credentials> {
    if variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
    {
        bail!(
            "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
               AWS_SHARED_CREDENTIALS_FILE (AWS_EC2_METADATA_DISABLED is true)"
        );
    }
    let is_old = variable("HAX_AWS_IMDSV1").is_some_and(|value| value == "on");
    let session = if is_old {
        None
    } else {
        let reply = client.ask_metadata(&credentials::session()).context(
            "there are no AWS_ACCESS_KEY_ID, no AWS_SHARED_CREDENTIALS_FILE, and no instance",
        )?;
        Some(credentials::read_session(&reply).map_err(anyhow::Error::msg)?)
    };
    client.is_secret(session.as_deref().unwrap_or_default());
    let reply = client.ask_metadata(&credentials::role(session.as_deref()))?;
    let role = credentials::read_role(&reply).map_err(anyhow::Error::msg)?;
    let reply = client.ask_metadata(&credentials::of_role(&role, session.as_deref()))?;
    let (found, expires) = credentials::read_of_role(&reply).map_err(anyhow::Error::msg)?;
    let value = serde_json::to_string(&found).context("credentials")?.into();
    client.obtained = Some(Token { value, expires });
    client.is_kept = false;
    Ok(found)
}
