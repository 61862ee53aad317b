//! Requests over HTTP, by ureq: no redirections, a limit for each reply, a time limit for each request.

use std::io::{self, Read as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hax_core::route::cloud::http::{Ask, Method, Reply};
use ureq::config::Config;
use ureq::http::{Request, Response};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _, TcpConnector};
use ureq::{Agent, AsSendBody, Body, Error, Proxy, ProxyProtocol};

use super::tls::Tls;
use super::url::Base;
use super::variable;
use crate::settings::consul::ClientTls;

/// The size of one read of a body, in bytes.
const PART: usize = 16 << 10;

/// The header fields of a reply that are kept.
const KEPT: [&str; 4] = ["retry-after", "location", "azure-asyncoperation", "metadata-flavor"];

/// The reason why there is no reply.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) why: String,
    /// Whether another attempt may succeed.
    pub(super) may_pass: bool,
}

/// The carrier of requests. It keeps connections for further requests of the same handler.
#[derive(Debug, Default)]
pub(super) struct Http {
    plain: Option<Agent>,
    secure: Option<Agent>,
}

impl Http {
    /// Sends a request and reads the whole reply, with a maximum length and a time limit.
    pub(super) fn send(
        &mut self,
        base: &Base,
        ask: &Ask,
        headers: &[(&str, String)],
        (max, within): (usize, Duration),
    ) -> anyhow::Result<Result<Reply, Failure>> {
        let agent = self.agent(base)?;
        let mut request = Request::builder().method(ask.method.name()).uri(format!(
            "{}{}",
            base.text(),
            ask.target
        ));
        for (name, value) in &ask.headers {
            request = request.header(*name, &**value);
        }
        for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
            request = request.header(*name, value);
        }
        let response = match ask.method {
            Method::Put | Method::Post => {
                run(agent, request.body(ask.body.clone()).context("the request")?, within)
            }
            Method::Get | Method::Delete => {
                run(agent, request.body(()).context("the request")?, within)
            }
        };
        Ok(response.map_err(|why| failure(why, within)).and_then(|response| read(response, max)))
    }

    fn agent(&mut self, base: &Base) -> anyhow::Result<&Agent> {
        // Plain text is for services on this machine only, so it needs no proxy.
        let (agent, is_tls) =
            if base.is_tls() { (&mut self.secure, true) } else { (&mut self.plain, false) };
        if agent.is_none() {
            *agent = Some(if is_tls { secure()? } else { with(None, Tls(None)) });
        }
        agent.as_ref().context("no agent")
    }
}

fn secure() -> anyhow::Result<Agent> {
    let ca_file = variable("HAX_CLOUD_CA_FILE").or_else(|| variable("AWS_CA_BUNDLE"));
    let (ca_dir, cert, key, server_name) = (None, None, None, None);
    let ca_file = ca_file.map(PathBuf::from);
    let tls = ClientTls { ca_file, ca_dir, cert, key, server_name, verify: true };
    let config = crate::tls::client(&tls).context("certificate authorities")?;
    let proxy = Proxy::try_from_env();
    let of_http = [ProxyProtocol::Http, ProxyProtocol::Https];
    if proxy.as_ref().is_some_and(|proxy| !of_http.contains(&proxy.protocol())) {
        bail!("HTTPS_PROXY or ALL_PROXY: only proxies of HTTP are supported");
    }
    Ok(with(proxy, Tls(Some(config))))
}

fn with(proxy: Option<Proxy>, tls: Tls) -> Agent {
    let config = Config::builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(proxy)
        .user_agent(concat!("hax/", env!("CARGO_PKG_VERSION")))
        .build();
    let connector =
        ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default()).chain(tls);
    Agent::with_parts(config, connector, DefaultResolver::default())
}

fn run(
    agent: &Agent,
    request: Request<impl AsSendBody>,
    within: Duration,
) -> Result<Response<Body>, Error> {
    agent.run(agent.configure_request(request).timeout_global(Some(within)).build())
}

fn read(response: Response<Body>, max: usize) -> Result<Reply, Failure> {
    let (parts, mut body) = response.into_parts();
    let headers = KEPT.iter().filter_map(|name| {
        let value = parts.headers.get(*name)?.to_str().ok()?;
        Some(((*name).into(), value.into()))
    });
    let headers = headers.collect();
    let too_large =
        || Failure { why: format!("the reply has more than {max} bytes"), may_pass: false };
    if body.content_length().is_some_and(|length| length > max as u64) {
        return Err(too_large());
    }
    let (mut whole, mut part) = (Vec::new(), [0; PART]);
    let mut reader = body.as_reader();
    loop {
        match reader.read(&mut part) {
            Ok(0) => break,
            Ok(n) if whole.len() + n > max => return Err(too_large()),
            Ok(n) => whole.extend_from_slice(&part[..n]),
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => {
                let why = format!("the reply breaks off: {why}");
                return Err(Failure { why, may_pass: true });
            }
        }
    }
    Ok(Reply { status: parts.status.as_u16(), headers, body: whole.into() })
}

fn failure(why: Error, within: Duration) -> Failure {
    let is_tls = |why: &io::Error| {
        why.get_ref().is_some_and(|inner| inner.downcast_ref::<rustls::Error>().is_some())
    };
    let (why, may_pass) = match why {
        Error::Timeout(_) => (format!("no reply within {} ms", within.as_millis()), true),
        Error::Io(why) if is_tls(&why) => (format!("TLS: {why}"), false),
        Error::Io(why) => (why.to_string(), true),
        Error::HostNotFound => ("the host is not found".into(), true),
        Error::ConnectionFailed => ("no connection".into(), true),
        Error::Protocol(why) => (format!("the reply is not HTTP: {why}"), true),
        Error::ConnectProxyFailed(why) => (format!("the proxy: {why}"), true),
        other => (other.to_string(), false),
    };
    Failure { why, may_pass }
}
