//! Blocking HTTP on threads: the client of Consul, single requests, and the lookup of host names.

mod caller;
mod client;
mod pool;
mod socket;
mod transport;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use bytes::Bytes;
use futures_channel::oneshot;
use hax_driver::consul::Address;
use hax_driver::host::platform::Request;
use rustls::ClientConfig;

pub use client::Client;

/// Looks up all addresses of a host on a thread of its own.
pub(crate) async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let at = (host.to_owned(), port);
    alone(move || Ok(at.to_socket_addrs()?.collect())).await?
}

/// Sends one request on a connection and a thread of its own; returns the status and the body of the
/// response.
pub(crate) async fn ask(
    address: &Address,
    tls: Option<Arc<ClientConfig>>,
    request: Request<'_>,
) -> anyhow::Result<(u16, Bytes)> {
    let agent = transport::agent(transport::Connector::new(address.clone(), tls));
    let Request { authority, method, target, body, token, answer_max } = request;
    let uri = format!("http://{authority}{target}");
    let mut request = http::Request::builder().method(method).uri(uri);
    request = request.header(http::header::HOST, authority);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {}", token.expose()));
    }
    let request = request.body(body)?;
    alone(move || {
        let (head, body) = request.into_parts();
        // ureq refuses a body of a GET request, even an empty one.
        let done = if body.is_empty() {
            agent.run(http::Request::from_parts(head, ()))
        } else {
            agent.run(http::Request::from_parts(head, &*body))
        };
        let mut response = done.map_err(|why| anyhow::anyhow!(transport::cause(why)))?;
        let status = response.status().as_u16();
        let body = transport::read(response.body_mut(), answer_max);
        Ok((status, body.map_err(|why| anyhow::anyhow!(why.why()))?))
    })
    .await?
}

/// Runs blocking work on a thread that ends with it.
async fn alone<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (say, done) = oneshot::channel();
    std::thread::Builder::new().spawn(move || {
        // The receiver may be gone.
        let _ = say.send(work());
    })?;
    done.await.map_err(|_| io::Error::other("the thread ended"))
}
