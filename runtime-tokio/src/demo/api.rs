//! A small HTTP client for the demo: Consul's API and hax's own routes.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// A server, by its base URL.
#[derive(Clone)]
pub struct Api {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
}

/// A response.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `X-Consul-Index`; 0 if there is none.
    pub index: u64,
    /// The whole body.
    pub body: Bytes,
}

impl Api {
    /// Creates a client of the server at `base`, `http://HOST:PORT`.
    #[must_use]
    pub fn new(base: String) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), base }
    }

    /// Returns the base URL.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request and returns any response.
    pub async fn send(
        &self,
        method: Method,
        target: &str,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Answer> {
        let url = format!("{}{target}", self.base);
        let request = Request::builder().method(method).uri(&url).body(Full::new(body.into()))?;
        let response = self.client.request(request).await.with_context(|| url.clone())?;
        let index = response.headers().get("x-consul-index");
        let index = index.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.with_context(|| url)?.to_bytes();
        Ok(Answer { status, index, body })
    }

    /// Sends a request like [`Api::send`]; a response other than 200 is an error.
    pub async fn done(
        &self,
        method: Method,
        target: &str,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Bytes> {
        let answer = self.send(method, target, body).await?;
        if answer.status != 200 {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            bail!("{}{target}: status {}: {text}", self.base, answer.status);
        }
        Ok(answer.body)
    }

    /// Gets a JSON document.
    pub async fn get(&self, target: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.done(Method::GET, target, Bytes::new()).await?)?)
    }
}

/// Imitates a watch of an agent's configuration: watches the service's health in Consul and posts it to hax,
/// without end.
pub async fn watch(consul: Api, hax: Api, service: &str) {
    let mut index = 0;
    loop {
        let target = format!("/v1/health/service/{service}?index={index}&wait=60s");
        if let Ok(answer) = consul.send(Method::GET, &target, Bytes::new()).await
            && answer.status == 200
            && hax.done(Method::POST, "/", answer.body).await.is_ok()
        {
            index = answer.index;
        } else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}
