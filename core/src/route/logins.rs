//! The logins of event handlers: the environment that a handler gets for its login, and the tokens that
//! handlers obtained.
//!
//! A handler is a short process. Its token is kept here for the next one, so that not every event needs a
//! login. Tokens are in memory only.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use super::job::Token;
use super::node::{Node, Parameters};
use super::provider::Provider;
use crate::base::time::WallClock;

/// The maximum number of kept tokens.
const TOKENS_MAX: usize = 128;

/// The remaining validity that a token needs for another handler, in seconds. It is longer than any handler.
const MARGIN: u64 = 240;

/// An environment variable: its name and its value.
type Variable = (Box<str>, Box<str>);

/// Environment variables of all clouds: proxies, and the certificate authorities of the machine.
const OF_CLOUDS: [&str; 9] = [
    "HAX_CLOUD_CA_FILE",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// Returns the prefixes of the environment variables with a provider's addresses and credentials.
const fn prefixes(provider: Provider) -> &'static [&'static str] {
    match provider {
        Provider::Linux => &[],
        Provider::Consul => &["HAX_CONSUL", "CONSUL_"],
        Provider::Aws => &["AWS_", "HAX_AWS_"],
        Provider::Azure(_) => &["HAX_AZURE_"],
        Provider::Gcp => &["GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_", "HAX_GCP_"],
    }
}

/// Selects the environment of a handler from that of the server. A handler gets the variables of its
/// provider, and the variable that its node names as the place of a secret.
pub(super) fn environment(all: &[Variable], node: &Node) -> Box<[Variable]> {
    let named = node.parameters.get("appKey").and_then(|place| place.strip_prefix("env:"));
    let is_cloud = match node.provider {
        Provider::Linux | Provider::Consul => false,
        Provider::Aws | Provider::Azure(_) | Provider::Gcp => true,
    };
    let is_meant = |name: &str| {
        prefixes(node.provider).iter().any(|prefix| name.starts_with(prefix))
            || is_cloud && OF_CLOUDS.contains(&name)
            || named == Some(name)
    };
    all.iter().filter(|(name, _)| is_meant(name)).cloned().collect::<Vec<_>>().into()
}

/// The tokens of handlers, by the credentials that they were obtained with. See the module.
#[derive(Debug, Default)]
pub(super) struct Tokens(BTreeMap<Box<str>, Token>);

impl Tokens {
    /// Returns the token for a redundancy node, if it is valid for long enough.
    pub(super) fn find(&self, node: &Node, now: WallClock) -> Option<Token> {
        let token = self.0.get(&*identity(node.provider, &node.parameters)?)?;
        (token.expires > seconds(now).saturating_add(MARGIN)).then(|| token.clone())
    }

    /// Keeps a token for the next handlers with the same credentials.
    pub(super) fn keep(&mut self, identity: Option<Box<str>>, token: Token, now: WallClock) {
        let Some(identity) = identity else { return };
        self.0.retain(|_, token| token.expires > seconds(now));
        if self.0.len() < TOKENS_MAX || self.0.contains_key(&identity) {
            self.0.insert(identity, token);
        }
    }
}

fn seconds(at: WallClock) -> u64 {
    at.0 / 1_000_000_000
}

/// Returns the text that is equal for all redundancy nodes with the same credentials.
pub(super) fn identity(provider: Provider, parameters: &Parameters) -> Option<Box<str>> {
    match provider {
        Provider::Linux | Provider::Consul => None,
        Provider::Aws | Provider::Gcp => Some(provider.name().into()),
        Provider::Azure(_) => {
            let of = |name| parameters.get(name).map_or("", |value| &**value);
            let (app, tenant, key) = (of("appId"), of("tenantId"), of("appKey"));
            // A control character is not permitted in any of them, so it separates them.
            Some(format!("{}\n{app}\n{tenant}\n{key}", provider.name()).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::provider::Cloud;
    use super::*;

    fn node(provider: Provider, app: &str) -> Node {
        let mut node = Node::new(provider);
        node.parameters.insert("appId", app.into());
        node.parameters.insert("appKey", "env:APP_KEY".into());
        node
    }

    fn at(second: u64) -> WallClock {
        WallClock(second * 1_000_000_000)
    }

    #[test]
    fn a_token_serves_the_same_credentials_until_shortly_before_it_expires() {
        let azure = Provider::Azure(Cloud::Public);
        let mut tokens = Tokens::default();
        let token = Token { value: "s3cret".into(), expires: 10_000 };
        let one = node(azure, "one");
        tokens.keep(identity(one.provider, &one.parameters), token.clone(), at(0));
        assert_eq!(tokens.find(&one, at(9_000)), Some(token.clone()));
        assert_eq!(tokens.find(&one, at(9_800)), None);
        assert_eq!(tokens.find(&node(azure, "other"), at(0)), None);
        assert_eq!(tokens.find(&node(Provider::Aws, "one"), at(0)), None);
        assert!(!format!("{tokens:?} {token:?}").contains("s3cret"));
        for nth in 0..1_000 {
            let node = node(azure, &format!("app-{nth}"));
            let identity = identity(azure, &node.parameters);
            tokens.keep(identity, Token { value: "x".into(), expires: 10_000 }, at(0));
        }
        assert_eq!(tokens.0.len(), TOKENS_MAX);
    }

    #[test]
    fn a_handler_gets_the_variables_of_its_provider_and_no_others() {
        let all: Vec<Variable> = [
            "AWS_SECRET_ACCESS_KEY",
            "CONSUL_HTTP_TOKEN",
            "APP_KEY",
            "HTTPS_PROXY",
            "HOME",
            "GOOGLE_APPLICATION_CREDENTIALS",
        ]
        .map(|name| (name.into(), "x".into()))
        .into();
        let given = |provider, app: Option<&str>| {
            let mut node = node(provider, "app");
            if app.is_none() {
                node.parameters.remove("appKey");
            }
            let given = environment(&all, &node).into_iter().map(|(name, _)| name);
            given.collect::<Vec<_>>().join(" ")
        };
        let azure = Provider::Azure(Cloud::China);
        assert_eq!(given(azure, Some("")), "APP_KEY HTTPS_PROXY");
        assert_eq!(given(azure, None), "HTTPS_PROXY");
        assert_eq!(given(Provider::Linux, None), "");
        assert_eq!(given(Provider::Consul, None), "CONSUL_HTTP_TOKEN");
        assert_eq!(given(Provider::Aws, None), "AWS_SECRET_ACCESS_KEY HTTPS_PROXY");
        assert_eq!(given(Provider::Gcp, None), "HTTPS_PROXY GOOGLE_APPLICATION_CREDENTIALS");
    }
}
