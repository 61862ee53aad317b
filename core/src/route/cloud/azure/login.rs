//! The addresses of Microsoft's clouds, and the tokens for their APIs.

use alloc::format;
use alloc::string::String;

use serde::Deserialize;

use super::super::super::provider::Cloud;
use super::super::http::{Ask, Method, Place, Reply, encode, form};
use super::super::said::refusal;

/// The name of the requests for a token, for messages.
const WHAT: &str = "the token for Azure";

/// Returns the URL of the Resource Manager, without a path.
#[must_use]
pub const fn management(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Public => "https://management.azure.com",
        Cloud::Government => "https://management.usgovcloudapi.net",
        Cloud::China => "https://management.chinacloudapi.cn",
    }
}

/// Returns the URL of the login of applications, without a path.
#[must_use]
pub const fn authority(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Public => "https://login.microsoftonline.com",
        Cloud::Government => "https://login.microsoftonline.us",
        Cloud::China => "https://login.partner.microsoftonline.cn",
    }
}

/// Returns the request for a token of this machine's managed identity.
#[must_use]
pub fn of_identity(cloud: Cloud) -> Ask {
    let resource = format!("{}/", management(cloud));
    let query = form(&[("api-version", "2018-02-01"), ("resource", &resource)]);
    let target = format!("/metadata/identity/oauth2/token?{query}");
    Ask::new(WHAT, Place::Metadata, Method::Get, target).with("metadata", "true")
}

/// An application with its key.
#[derive(Clone, Copy)]
pub struct Application<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The application's id.
    pub id: &'a str,
    /// The application's key.
    pub key: &'a str,
}

/// Returns the request for a token of an application.
#[must_use]
pub fn of_application(cloud: Cloud, application: Application<'_>) -> Ask {
    let Application { tenant, id, key } = application;
    let scope = format!("{}/.default", management(cloud));
    let target = format!("/{}/oauth2/v2.0/token", encode(tenant));
    Ask::new(WHAT, Place::Login, Method::Post, target).form(&[
        ("grant_type", "client_credentials"),
        ("client_id", id),
        ("client_secret", key),
        ("scope", &scope),
    ])
}

#[derive(Deserialize)]
struct Issued {
    access_token: String,
    expires_in: Seconds,
}

/// A number, which the metadata service writes as a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(u64),
    Text(String),
}

/// Reads a token. Returns it with its lifetime in seconds.
///
/// # Errors
///
/// The reply has none. The text contains a part of the reply only if that is an error of the login.
pub fn read(reply: &Reply) -> Result<(String, u64), String> {
    if reply.status != 200 {
        return Err(refusal(WHAT, reply));
    }
    let bad = || format!("{WHAT}: the reply has no token");
    let issued: Issued = serde_json::from_slice(&reply.body).map_err(|_| bad())?;
    let seconds = match issued.expires_in {
        Seconds::Number(number) => number,
        Seconds::Text(text) => text.parse().map_err(|_| bad())?,
    };
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    if is_word(&issued.access_token) { Ok((issued.access_token, seconds)) } else { Err(bad()) }
}
