//! The cryptography of the clouds' authentication, by ring.

use anyhow::anyhow;
use hax_core::route::cloud::aws::credentials::Credentials;
use hax_core::route::cloud::aws::sign::{self, Scope};
use hax_core::route::cloud::http::Ask;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use ring::{digest, hmac};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;

/// Returns random bytes.
pub(super) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow!("the system has no randomness"))?;
    Ok(bytes)
}

/// Returns the SHA-256 of a text, in lower-case hexadecimal digits.
fn sha256(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hmac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

/// Returns the header field `authorization` of a request to AWS. The other header fields are signed with it.
pub(super) fn aws(
    ask: &Ask,
    headers: &[(&str, &str)],
    credentials: &Credentials,
    scope: &Scope<'_>,
) -> String {
    let canonical = sign::canonical(ask, headers, &sha256(&ask.body));
    let text = sign::to_sign(scope, &sha256(&canonical.text));
    let secret = format!("AWS4{}", credentials.secret);
    let mut key = secret.into_bytes();
    for part in scope.parts() {
        key = hmac(&key, part).as_ref().to_vec();
    }
    let signature = hex(hmac(&key, &text).as_ref());
    sign::authorization(&credentials.key, scope, &canonical.signed, &signature)
}

/// Returns the signature of a text by RSA with SHA-256. The key is in PEM, as PKCS #8.
pub(super) fn rs256(key: &str, text: &str) -> anyhow::Result<Vec<u8>> {
    let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes())
        .map_err(|_| anyhow!("it is no private key in PEM, as PKCS #8"))?;
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der())
        .map_err(|why| anyhow!("it is no key of RSA: {why}"))?;
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
        .map_err(|_| anyhow!("it cannot be used to sign"))?;
    Ok(signature)
}

#[cfg(test)]
mod tests {
    use hax_core::route::cloud::http::{Method, Place};

    use super::*;

    fn signed(method: Method, target: &str, headers: &[(&str, &str)], service: &str) -> String {
        let ask = Ask::new("a vector", Place::Api, method, target.into());
        vector(&ask, headers, service)
    }

    fn vector(ask: &Ask, headers: &[(&str, &str)], service: &str) -> String {
        let credentials = Credentials {
            key: "AKIDEXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            token: None,
        };
        let scope = Scope { time: "20150830T123600Z", region: "us-east-1", service };
        aws(ask, headers, &credentials, &scope)
    }

    /// The signatures that AWS publishes for these requests, in its documentation and its test suite.
    #[test]
    fn signatures_are_those_that_aws_publishes() {
        let date = ("x-amz-date", "20150830T123600Z");
        let host = ("host", "example.amazonaws.com");
        let vanilla = signed(Method::Get, "/", &[host, date], "service");
        assert_eq!(
            vanilla,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, \
             Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
        let users = signed(
            Method::Get,
            "/?Version=2010-05-08&Action=ListUsers",
            &[
                ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
                ("host", "iam.amazonaws.com"),
                date,
            ],
            "iam",
        );
        let published = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
        assert!(users.ends_with(published), "{users}");
        let ask = Ask {
            body: "Param1=value1".into(),
            ..Ask::new("", Place::Api, Method::Post, "/".into())
        };
        let ask = ask.with("content-type", "application/x-www-form-urlencoded");
        let published = "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a";
        let form = vector(&ask, &[host, date], "service");
        assert!(form.ends_with(published), "{form}");
    }
}
