//! The addresses of the clouds' services, and the settings that replace them.

use std::net::IpAddr;

use anyhow::{Context as _, bail};
use hax_core::route::cloud;
use hax_core::route::job::Job;
use hax_core::route::provider::Provider;

use super::variable;

/// The link-local address of every cloud's metadata service.
const METADATA: &str = "http://169.254.169.254";

/// The URL of a service without a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base(String);

impl Base {
    /// Returns the address of the cloud's API.
    pub(super) fn api(job: &Job) -> anyhow::Result<Self> {
        let names: &[&str] = match job.provider {
            Provider::Aws => &["AWS_ENDPOINT_URL_EC2", "AWS_ENDPOINT_URL"],
            Provider::Azure(_) => &["HAX_AZURE_URL"],
            Provider::Gcp => &["HAX_GCP_URL"],
            Provider::Linux | Provider::Consul => &[],
        };
        match of_environment(names)? {
            Some(base) => base.confidential(),
            None => Self::new(&cloud::base(job).map_err(anyhow::Error::msg)?),
        }
    }

    /// Returns the address of the cloud's metadata service.
    pub(super) fn metadata(provider: Provider) -> anyhow::Result<Self> {
        let found = match provider {
            Provider::Aws => of_environment(&["AWS_EC2_METADATA_SERVICE_ENDPOINT"])?,
            Provider::Azure(_) => of_environment(&["HAX_AZURE_METADATA_URL"])?,
            Provider::Gcp => variable("GCE_METADATA_HOST")
                .map(|host| Self::new(&format!("http://{host}")).context("GCE_METADATA_HOST"))
                .transpose()?,
            Provider::Linux | Provider::Consul => None,
        };
        Ok(found.unwrap_or_else(|| Self(METADATA.into())))
    }

    /// Checks the address of a service.
    pub(super) fn new(text: &str) -> anyhow::Result<Self> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let Some(authority) = authority.filter(|authority| !authority.is_empty()) else {
            bail!("{text:?}: expected https://HOST or https://HOST:PORT");
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        if !authority.bytes().all(is_plain) {
            bail!("{text:?}: expected https://HOST or https://HOST:PORT, without user and path");
        }
        Ok(Self(text.into()))
    }

    /// Refuses an address to which credentials would go in plain text over a network.
    pub(super) fn confidential(self) -> anyhow::Result<Self> {
        if self.is_tls() || is_local(self.host()) {
            return Ok(self);
        }
        bail!("{}: credentials are sent by http:// to this machine only; use https://", self.0)
    }

    /// Returns the URL.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// Returns whether the service is reached by TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.0.starts_with("https://")
    }

    /// Returns the host and the port, as in the header field `Host`.
    pub(super) fn authority(&self) -> &str {
        self.0.split_once("://").map_or("", |(_, authority)| authority)
    }

    fn host(&self) -> &str {
        let authority = self.authority();
        match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, _)) => host,
            None => authority.split_once(':').map_or(authority, |(host, _)| host),
        }
    }
}

fn of_environment(names: &[&str]) -> anyhow::Result<Option<Base>> {
    for name in names {
        if let Some(text) = variable(name) {
            return Base::new(&text).with_context(|| (*name).to_owned()).map(Some);
        }
    }
    Ok(None)
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_by_tls_or_stay_on_this_machine() {
        for good in
            ["https://ec2.eu-west-1.amazonaws.com/", "http://127.0.0.1:5000", "http://[::1]:1"]
        {
            assert!(Base::new(good).and_then(Base::confidential).is_ok(), "{good}");
        }
        for bad in [
            "http://10.0.0.1",
            "http://localhost.example",
            "https://",
            "ftp://x",
            "https://user:secret@host",
            "https://host/path",
            "https://host?x",
            "ec2.amazonaws.com",
            "http://127.0.0.1@evil.example",
        ] {
            assert!(Base::new(bad).and_then(Base::confidential).is_err(), "{bad}");
        }
        assert_eq!(Base::new("https://[::1]:7/").unwrap().host(), "::1");
        assert_eq!(Base::new("https://a.b:7").unwrap().authority(), "a.b:7");
    }
}
