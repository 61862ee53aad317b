//! One HTTP request on a connection of its own.

use bytes::Bytes;
use hax_driver::host::platform::Request;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST};

use crate::connect::Connector;

/// Sends a request; returns the status and the body of the response.
pub async fn ask(connector: &Connector, request: Request<'_>) -> anyhow::Result<(u16, Bytes)> {
    let (mut sender, connection) = http1::handshake(connector.connect().await?).await?;
    let connection = tokio::spawn(connection);
    let Request { authority, method, target, body, token, answer_max } = request;
    let mut request = hyper::Request::builder().method(method).uri(target).header(HOST, authority);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
    }
    let response = sender.send_request(request.body(Full::new(body))?).await?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), answer_max).collect().await;
    let body = body.map_err(|why| anyhow::anyhow!(why))?.to_bytes();
    connection.abort();
    Ok((status, body))
}
