//! TLS for ureq, by rustls with the machine's own certificate authorities or those of a file.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

/// A connector that wraps the connections of `https://`.
pub(super) struct Tls(pub(super) Option<Arc<ClientConfig>>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TLS")
    }
}

impl<T: Transport> Connector<T> for Tls {
    type Out = Either<T, Wrapped<T>>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<T>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(inner) = chained else { return Ok(None) };
        if !details.needs_tls() || inner.is_tls() {
            return Ok(Some(Either::A(inner)));
        }
        let config = self.0.clone().ok_or(Error::Tls("there is no TLS for this address"))?;
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name =
            ServerName::try_from(host).map_err(|_| Error::Tls("the host's name is invalid"))?;
        let client = ClientConnection::new(config, name).map_err(|why| Error::Other(why.into()))?;
        let stream =
            StreamOwned::new(client, TransportAdapter::new(inner, details.current_time.clone()));
        let (input, output) =
            (details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(Wrapped { stream, buffers: LazyBuffers::new(input, output) })))
    }
}

/// A connection with TLS.
pub(super) struct Wrapped<T: Transport> {
    stream: StreamOwned<ClientConnection, TransportAdapter<T>>,
    buffers: LazyBuffers,
}

impl<T: Transport> fmt::Debug for Wrapped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a connection with TLS")
    }
}

impl<T: Transport> Transport for Wrapped<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.get_mut().set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(self.stream.flush()?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
