//! Blocking sockets to one address: TCP, TLS over TCP, or a unix socket.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use hax_driver::consul::Address;
use hax_driver::host::clock::Clock;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::unversioned::transport::ShutdownHandle;

/// The timeout of connecting. An agent on this machine accepts at once or not at all.
const WITHIN: Duration = Duration::from_secs(2);

/// The timeout of the TLS handshake, which takes computation on a possibly busy machine.
const TLS_WITHIN: Duration = Duration::from_secs(5);

/// A socket that another thread can shut down.
#[derive(Clone, Debug)]
pub(super) enum Socket {
    Tcp(Arc<TcpStream>),
    Unix(Arc<Local>),
}

/// A unix socket.
#[derive(Debug)]
pub(super) struct Local(UnixStream);

impl ShutdownHandle for Local {
    fn shutdown(&self) {
        // The call fails if the peer has closed first.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Socket {
    /// Connects, with a timeout of some seconds.
    pub(super) fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(at) | Address::Tls(at, _) => Ok(Self::Tcp(Arc::new(tcp(at)?))),
            Address::Unix(path) => Ok(Self::Unix(Arc::new(Local(UnixStream::connect(path)?)))),
        }
    }

    /// Returns whether nothing has arrived from the peer, including its end.
    fn is_quiet(&mut self) -> io::Result<bool> {
        self.set_nonblocking(true)?;
        let quiet =
            matches!(self.read(&mut [0]), Err(why) if why.kind() == io::ErrorKind::WouldBlock);
        self.set_nonblocking(false)?;
        Ok(quiet)
    }

    fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(on),
            Self::Unix(stream) => stream.0.set_nonblocking(on),
        }
    }

    fn set_patience(&self, time: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_read_timeout(time)?;
                stream.set_write_timeout(time)
            }
            Self::Unix(stream) => {
                stream.0.set_read_timeout(time)?;
                stream.0.set_write_timeout(time)
            }
        }
    }
}

/// Connects to the first reachable address, with one timeout for all.
fn tcp(at: &str) -> io::Result<TcpStream> {
    let clock = Clock::new();
    let mut last = io::Error::other("the name has no address");
    for address in at.to_socket_addrs()? {
        let left = WITHIN.saturating_sub(Duration::from_micros(clock.now().mono.as_micros()));
        if left.is_zero() {
            return Err(late());
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(why) if why.kind() == io::ErrorKind::TimedOut => return Err(late()),
            Err(why) => last = why,
        }
    }
    Err(last)
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no connection in time")
}

impl Read for Socket {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&**stream).read(bytes),
            Self::Unix(stream) => (&stream.0).read(bytes),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&**stream).write(bytes),
            Self::Unix(stream) => (&stream.0).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket, plain or with TLS.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

impl Stream {
    /// Does the TLS handshake if the address needs it, with a timeout of some seconds.
    pub(super) fn begin(
        socket: Socket,
        address: &Address,
        tls: Option<Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        let Address::Tls(_, name) = address else { return Ok(Self::Plain(socket)) };
        let config = tls.ok_or_else(|| io::Error::other("there is no TLS for it"))?;
        let client = ClientConnection::new(config, name.clone()).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(client, socket);
        let clock = Clock::new();
        stream.sock.set_patience(Some(TLS_WITHIN))?;
        while stream.conn.is_handshaking() {
            if clock.now().mono.as_micros() >= TLS_WITHIN.as_micros().try_into().unwrap_or(u64::MAX)
            {
                return Err(late());
            }
            stream.conn.complete_io(&mut stream.sock).map_err(|why| match why.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => late(),
                _ => why,
            })?;
        }
        stream.sock.set_patience(None)?;
        Ok(Self::Tls(Box::new(stream)))
    }

    pub(super) fn is_quiet(&mut self) -> bool {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &mut stream.sock,
        };
        socket.is_quiet().unwrap_or(false)
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(bytes),
            Self::Tls(stream) => stream.read(bytes),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
