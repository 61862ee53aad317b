//! ureq's transport, and an agent without automatic behaviour.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hax_core::consul::port::Unanswered;
use hax_driver::consul::Address;
use rustls::ClientConfig;
use ureq::config::{AutoHeaderValue, Config};
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    self, Buffers, ConnectionDetails, LazyBuffers, NextTimeout, ShutdownHandle,
};
use ureq::{Agent, Body, Error};

use super::socket::{Socket, Stream};

/// The maximum idle time of a connection. Consul's is longer, so a call seldom meets a connection that was
/// just closed.
const IDLE: Duration = Duration::from_secs(30);

/// The maximum size of one read or write, in bytes.
const BUFFER: usize = 16 << 10;

/// A TLS configuration that can be replaced.
pub(super) type Tls = Arc<RwLock<Option<Arc<ClientConfig>>>>;

/// A connector to one address.
#[derive(Clone)]
pub(super) struct Connector {
    address: Address,
    tls: Tls,
    connecting: Arc<AtomicBool>,
}

impl Connector {
    pub(super) fn new(address: Address, tls: Option<Arc<ClientConfig>>) -> Self {
        Self::with(address, Arc::new(RwLock::new(tls)))
    }

    pub(super) fn with(address: Address, tls: Tls) -> Self {
        Self { address, tls, connecting: Arc::default() }
    }

    /// Returns the same connector for another thread.
    pub(super) fn own(&self) -> Self {
        Self::with(self.address.clone(), Arc::clone(&self.tls))
    }

    /// Returns whether the last call failed while it connected.
    pub(super) fn was_connecting(&self) -> bool {
        self.connecting.swap(false, Ordering::Relaxed)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to {:?}", self.address)
    }
}

impl transport::Connector for Connector {
    type Out = Transport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Transport>, Error> {
        self.connecting.store(true, Ordering::Relaxed);
        let socket = Socket::connect(&self.address)?;
        let handle: Weak<dyn ShutdownHandle> = match &socket {
            Socket::Tcp(stream) => Arc::downgrade(&(Arc::clone(stream) as Arc<dyn ShutdownHandle>)),
            Socket::Unix(stream) => {
                Arc::downgrade(&(Arc::clone(stream) as Arc<dyn ShutdownHandle>))
            }
        };
        (details.register_shutdown)(handle)?;
        let tls = self.tls.read().unwrap_or_else(PoisonError::into_inner).clone();
        let stream = Stream::begin(socket, &self.address, tls)?;
        self.connecting.store(false, Ordering::Relaxed);
        Ok(Some(Transport { stream, buffers: LazyBuffers::new(BUFFER, BUFFER) }))
    }
}

/// One connection. It has no timeouts: the caller shuts it down after its own timeout.
#[derive(Debug)]
pub(super) struct Transport {
    stream: Stream,
    buffers: LazyBuffers,
}

impl transport::Transport for Transport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(self.stream.flush()?)
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        let amount = loop {
            match self.stream.read(self.buffers.input_append_buf()) {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.is_quiet()
    }
}

/// A resolver that does nothing: the address is fixed, so the URI is ignored.
#[derive(Debug)]
struct Nowhere;

impl Resolver for Nowhere {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        Ok(self.empty())
    }
}

/// Creates an agent that keeps one connection, adds no headers and follows no redirections.
pub(super) fn agent(connector: Connector) -> Agent {
    let config = Config::builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(AutoHeaderValue::None)
        .accept(AutoHeaderValue::None)
        .accept_encoding(AutoHeaderValue::None)
        .max_idle_connections(1)
        .max_idle_connections_per_host(1)
        .max_idle_age(IDLE)
        .build();
    Agent::with_parts(config, connector, Nowhere)
}

/// Returns the error inside ureq's error, which is the most informative one.
pub(super) fn cause(why: Error) -> Box<dyn std::error::Error + Send + Sync> {
    match why {
        Error::Io(why) => Box::new(why),
        other => Box::new(other),
    }
}

/// Reads a whole body of at most `max` bytes.
pub(super) fn read(body: &mut Body, max: usize) -> Result<Bytes, Unanswered> {
    let announced =
        body.content_length().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if announced.is_some_and(|length| length > max) {
        return Err(Unanswered::TooLarge);
    }
    let mut whole = BytesMut::with_capacity(announced.unwrap_or(0));
    let mut reader = body.as_reader();
    let mut part = [0; BUFFER];
    loop {
        match reader.read(&mut part) {
            Ok(0) => return Ok(whole.freeze()),
            Ok(n) if whole.len() + n > max => return Err(Unanswered::TooLarge),
            Ok(n) => whole.extend_from_slice(&part[..n]),
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Unanswered::Broken),
        }
    }
}
