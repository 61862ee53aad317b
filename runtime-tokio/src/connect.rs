//! Connections to one address: TCP, TLS over TCP, or a unix socket; for hyper's pool and for other users.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use hax_driver::consul::Address;
use hyper::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// The timeout of connecting. An agent on this machine accepts at once or not at all.
const WITHIN: Duration = Duration::from_secs(2);

/// The timeout of the TLS handshake, which takes computation on a possibly busy machine.
const TLS_WITHIN: Duration = Duration::from_secs(5);

/// A byte stream in both directions.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

impl Connection for Box<dyn Socket> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// A connection in the form that hyper expects.
pub type Stream = TokioIo<Box<dyn Socket>>;

/// A connector to one address.
#[derive(Clone)]
pub struct Connector {
    address: Address,
    tls: Arc<RwLock<Option<Arc<ClientConfig>>>>,
}

impl Connector {
    /// Creates a connector to `address`; `tls` is needed only for [`Address::Tls`].
    #[must_use]
    pub fn new(address: Address, tls: Option<Arc<ClientConfig>>) -> Self {
        Self { address, tls: Arc::new(RwLock::new(tls)) }
    }

    /// Sets the TLS configuration of future connections.
    pub fn replace_tls(&self, tls: Option<Arc<ClientConfig>>) {
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    /// Connects, with a timeout of some seconds.
    pub async fn connect(&self) -> io::Result<Stream> {
        let socket: Box<dyn Socket> = match &self.address {
            Address::Tcp(at) => Box::new(tcp(at).await?),
            Address::Unix(path) => Box::new(within(WITHIN, UnixStream::connect(path)).await?),
            Address::Tls(at, name) => {
                let config = self.tls.read().unwrap_or_else(PoisonError::into_inner).clone();
                let config = config.ok_or_else(|| io::Error::other("there is no TLS for it"))?;
                let stream = tcp(at).await?;
                let connected = TlsConnector::from(config).connect(name.clone(), stream);
                Box::new(within(TLS_WITHIN, connected).await?)
            }
        };
        Ok(TokioIo::new(socket))
    }
}

async fn tcp(at: &str) -> io::Result<TcpStream> {
    let stream = within(WITHIN, TcpStream::connect(at)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn within<T>(limit: Duration, done: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
    tokio::time::timeout(limit, done).await.unwrap_or_else(|_| Err(late()))
}

impl tower_service::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The address is fixed, so the URI is ignored.
    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect().await })
    }
}
