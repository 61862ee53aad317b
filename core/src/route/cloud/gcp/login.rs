//! The tokens for Google's API: from the metadata server, or for a service account.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::super::http::{Ask, Method, Place, Reply};
use super::super::said::refusal;

/// The name of the requests for a token, for messages.
const WHAT: &str = "the token for Google Cloud";

/// The scope of a token.
const SCOPE: &str = "https://www.googleapis.com/auth/compute";

/// The lifetime of a service account's claims, in seconds: the maximum that Google accepts.
const LIFETIME: u64 = 3_600;

/// The default URL that issues tokens to service accounts.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

/// The header of the claims, and nothing else: the algorithm.
pub const JWT_HEADER: &str = r#"{"alg":"RS256","typ":"JWT"}"#;

/// Returns the request for a token of this machine's service account.
#[must_use]
pub fn of_machine() -> Ask {
    let target = "/computeMetadata/v1/instance/service-accounts/default/token".into();
    Ask::new(WHAT, Place::Metadata, Method::Get, target).with("metadata-flavor", "Google")
}

/// A service account with its key.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Account {
    /// The account's address.
    pub client_email: Box<str>,
    /// The private key, in PEM.
    pub private_key: Box<str>,
    /// The id of the key.
    #[serde(default)]
    pub private_key_id: Box<str>,
    /// The URL that issues tokens.
    #[serde(default = "token_uri")]
    pub token_uri: Box<str>,
}

fn token_uri() -> Box<str> {
    TOKEN_URI.into()
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(service account {})", self.client_email)
    }
}

/// Reads the file of a service account.
///
/// # Errors
///
/// The file is another one. The text contains nothing of the file.
pub fn of_file(text: &str) -> Result<Account, &'static str> {
    serde_json::from_str(text).map_err(
        |_| "it is no key file of a service account, with client_email and private_key in JSON",
    )
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'static str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

impl Account {
    /// Returns the claims that are signed, at this second of UNIX time.
    #[must_use]
    pub fn claims(&self, now: u64) -> String {
        let claims = Claims {
            iss: &self.client_email,
            scope: SCOPE,
            aud: &self.token_uri,
            iat: now,
            exp: now + LIFETIME,
        };
        // The claims contain only text and numbers, so they can always be serialized.
        serde_json::to_string(&claims).unwrap_or_default()
    }

    /// Splits the URL that issues tokens into the service and the path.
    #[must_use]
    pub fn place(&self) -> (&str, &str) {
        let authority = self.token_uri.find("://").map_or(0, |at| at + 3);
        let path = self.token_uri[authority..].find('/').map(|at| at + authority);
        path.map_or((&*self.token_uri, "/"), |at| self.token_uri.split_at(at))
    }
}

/// Returns the request for a token with signed claims.
#[must_use]
pub fn of_account(path: &str, assertion: &str) -> Ask {
    Ask::new(WHAT, Place::Login, Method::Post, path.into()).form(&[
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("assertion", assertion),
    ])
}

#[derive(Deserialize)]
struct Issued {
    access_token: String,
    expires_in: u64,
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
    let Issued { access_token, expires_in } =
        serde_json::from_slice(&reply.body).map_err(|_| bad())?;
    let is_word = !access_token.is_empty() && access_token.bytes().all(|b| b.is_ascii_graphic());
    if is_word { Ok((access_token, expires_in)) } else { Err(bad()) }
}
