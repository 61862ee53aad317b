//! The credentials of AWS: in a file, and from the metadata service of an instance.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::super::http::{Ask, Method, Place, Reply, encode};
use super::super::said::bounded;
use super::super::time;

/// The lifetime of a token of the metadata service. One event needs it for three requests.
const LIFETIME: &str = "60";

/// The path of the role's credentials.
const ROLE: &str = "/latest/meta-data/iam/security-credentials/";

/// An access key with its secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Credentials {
    /// The id of the key.
    #[serde(rename = "AccessKeyId")]
    pub key: Box<str>,
    /// The secret.
    #[serde(rename = "SecretAccessKey")]
    pub secret: Box<str>,
    /// The token of temporary credentials.
    #[serde(rename = "Token", default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Box<str>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(credentials)")
    }
}

/// Returns the credentials of one profile of a credentials file.
///
/// # Errors
///
/// The profile is not there, or lacks a key or a secret.
pub fn of_file(text: &str, profile: &str) -> Result<Credentials, String> {
    let (mut is_found, mut is_here) = (false, false);
    let (mut key, mut secret, mut token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.split(']').next()) {
            let name = name.trim();
            is_here = name.strip_prefix("profile ").map_or(name, str::trim) == profile;
            is_found |= is_here;
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_here) {
            let field = match name.trim() {
                "aws_access_key_id" => &mut key,
                "aws_secret_access_key" => &mut secret,
                "aws_session_token" => &mut token,
                _ => continue,
            };
            *field = Some(value.trim()).filter(|value| !value.is_empty()).map(Into::into);
        }
    }
    if !is_found {
        return Err(format!("there is no profile {profile:?}"));
    }
    let (Some(key), Some(secret)) = (key, secret) else {
        let both = "aws_access_key_id and aws_secret_access_key";
        return Err(format!("the profile {profile:?} does not have both {both}"));
    };
    Ok(Credentials { key, secret, token })
}

/// Returns the request for a token of the metadata service (`IMDSv2`).
#[must_use]
pub fn session() -> Ask {
    let target = "/latest/api/token".into();
    Ask::new("the instance's token", Place::Metadata, Method::Put, target)
        .with("x-aws-ec2-metadata-token-ttl-seconds", LIFETIME)
}

/// Reads the token.
///
/// # Errors
///
/// The reply has none.
pub fn read_session(reply: &Reply) -> Result<String, String> {
    let text = reply.text("the instance's token")?.trim();
    let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if reply.status == 200 && is_word {
        return Ok(text.into());
    }
    Err(format!("the instance's metadata service gives no token: status {}", reply.status))
}

/// Returns the request for the name of the instance's role. Without a token it is one of `IMDSv1`.
#[must_use]
pub fn role(session: Option<&str>) -> Ask {
    with(Ask::new("the instance's role", Place::Metadata, Method::Get, ROLE.into()), session)
}

/// Reads the name of the role.
///
/// # Errors
///
/// The instance has no role.
pub fn read_role(reply: &Reply) -> Result<String, String> {
    let text = reply.text("the instance's role")?;
    let name = text.lines().next().unwrap_or_default().trim();
    match reply.status {
        200 if !name.is_empty() && name.len() <= 128 => Ok(name.into()),
        200 | 404 => Err("the instance has no role: attach an instance profile to it, or set \
                          AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
                          AWS_SHARED_CREDENTIALS_FILE"
            .into()),
        401 => Err("the instance's metadata service refuses requests without a token".into()),
        status => Err(format!("the instance's role: status {status}")),
    }
}

/// Returns the request for the credentials of a role.
#[must_use]
pub fn of_role(role: &str, session: Option<&str>) -> Ask {
    let target = format!("{ROLE}{}", encode(role));
    with(Ask::new("the role's credentials", Place::Metadata, Method::Get, target), session)
}

fn with(ask: Ask, session: Option<&str>) -> Ask {
    match session {
        Some(session) => ask.with("x-aws-ec2-metadata-token", session),
        None => ask,
    }
}

#[derive(Deserialize)]
struct OfRole {
    #[serde(rename = "Code", default)]
    code: Option<String>,
    #[serde(flatten)]
    credentials: Credentials,
    #[serde(rename = "Expiration")]
    expiration: String,
}

/// Reads the credentials of a role. Returns them with the second of UNIX time at which they expire.
///
/// # Errors
///
/// The reply has none. The text contains nothing of the reply, since that may have a secret.
pub fn read_of_role(reply: &Reply) -> Result<(Credentials, u64), String> {
    let what = "the role's credentials";
    if reply.status != 200 {
        return Err(format!("{what}: status {}", reply.status));
    }
    let read: OfRole = serde_json::from_slice(&reply.body)
        .map_err(|_| format!("{what}: the reply has not all fields of credentials"))?;
    if let Some(code) = read.code.filter(|code| code != "Success") {
        return Err(format!("{what}: {}", bounded(&code)));
    }
    let expires = time::seconds(&read.expiration);
    let expires = expires.ok_or_else(|| format!("{what}: they have no date of expiration"))?;
    Ok((read.credentials, expires))
}
