//! HTTP that blocks, on threads: the client of Consul, one request alone, and the names of hosts.

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

/// All addresses of a host, looked up on a thread of its own.
pub(crate) async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let at = (host.to_owned(), port);
    alone(move || Ok(at.to_socket_addrs()?.collect())).await?
}

/// Sends one request on a connection and a thread of its own; status and body of what is answered.
pub(crate) async fn ask(
    address: &Address,
    tls: Option<Arc<ClientConfig>>,
    request: Request<'_>,
) -> anyhow::Result<(u16, Bytes)> {
    let agent = transport::agent(transport::Connector::new(address.clone(), tls));
    let Request { authority, target, token, answer_max } = request;
    let mut request = http::Request::builder().uri(format!("http://{authority}{target}"));
    request = request.header(http::header::HOST, authority);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {}", token.expose()));
    }
    let request = request.body(())?;
    alone(move || {
        let mut response =
            agent.run(request).map_err(|why| anyhow::anyhow!(transport::cause(why)))?;
        let status = response.status().as_u16();
        let body = transport::read(response.body_mut(), answer_max);
        Ok((status, body.map_err(|why| anyhow::anyhow!(why.why()))?))
    })
    .await?
}

/// What blocks, on a thread that ends with it.
async fn alone<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (say, done) = oneshot::channel();
    std::thread::Builder::new().spawn(move || {
        // Whoever asked may have gone away.
        let _ = say.send(work());
    })?;
    done.await.map_err(|_| io::Error::other("the thread ended"))
}
