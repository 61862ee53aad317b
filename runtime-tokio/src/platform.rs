//! The platform of this runtime for the program's commands.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hax_driver::consul::Address;
use hax_driver::host::platform::{self, Platform, Request};
use hax_driver::host::signals::Signals;
use hax_driver::host::timer::Timer;
use hax_driver::http::Stream;
use hax_driver::net;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use crate::connect::Connector;
use crate::consul::Client;
use crate::{ask, signals};

/// tokio on one thread: there is one machine, and it mostly waits.
pub struct Tokio;

impl Timer for Tokio {
    async fn sleep(time: Duration) {
        tokio::time::sleep(time).await;
    }

    async fn sleep_until(at: Instant) {
        tokio::time::sleep_until(at.into()).await;
    }

    async fn yield_now() {
        tokio::task::yield_now().await;
    }
}

impl Platform for Tokio {
    type Client = Client;
    type Listener = TcpListener;
    type LocalListener = UnixListener;
    type Socket = Socket;
    type Task<T: 'static> = Task<T>;

    const HTTP_BODIES_MAX: usize = 64 << 20;

    fn block_on<T>(program: impl Future<Output = T>) -> io::Result<T> {
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        let done = runtime.block_on(program);
        // The shutdown does not wait for a running lookup of a name.
        runtime.shutdown_background();
        Ok(done)
    }

    fn spawn<T: 'static>(task: impl Future<Output = T> + 'static) -> Task<T> {
        Task(Some(tokio::task::spawn_local(task)))
    }

    fn signals(reload: bool) -> io::Result<Signals> {
        signals::install(reload)
    }

    async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }

    fn listener(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        TcpListener::from_std(listener)
    }

    fn local_listener(listener: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
        UnixListener::from_std(listener)
    }

    async fn accept_local(listener: &UnixListener) -> io::Result<Box<dyn Stream>> {
        let (socket, _) = listener.accept().await?;
        Ok(Box::new(socket.compat()))
    }

    fn socket(socket: std::net::TcpStream) -> io::Result<Socket> {
        Ok(Socket(TcpStream::from_std(socket)?))
    }

    async fn accept(listener: &TcpListener) -> io::Result<(Socket, SocketAddr)> {
        let (socket, peer) = listener.accept().await?;
        Ok((Socket(socket), peer))
    }

    async fn stream(
        Socket(socket): Socket,
        tls: Option<Arc<ServerConfig>>,
    ) -> io::Result<Box<dyn Stream>> {
        Ok(match tls {
            None => Box::new(socket.compat()),
            Some(tls) => Box::new(TlsAcceptor::from(tls).accept(socket).await?.compat()),
        })
    }

    async fn ask(
        address: &Address,
        tls: Option<Arc<ClientConfig>>,
        request: Request<'_>,
    ) -> anyhow::Result<(u16, Bytes)> {
        ask::ask(&Connector::new(address.clone(), tls), request).await
    }
}

/// A task on this thread.
pub struct Task<T>(Option<JoinHandle<T>>);

impl<T> platform::Task<T> for Task<T> {
    fn detach(mut self) {
        self.0 = None;
    }

    fn is_finished(&self) -> bool {
        self.0.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(task) = &mut self.0 else { return Poll::Pending };
        match ready!(Pin::new(task).poll(cx)) {
            Ok(done) => Poll::Ready(done),
            Err(why) => match why.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // A task is cancelled only when the runtime shuts down; then the waiting task ends too.
                Err(_cancelled) => Poll::Pending,
            },
        }
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// A TCP connection.
pub struct Socket(TcpStream);

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl net::Socket for Socket {
    async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    async fn writable(&self) -> io::Result<()> {
        self.0.writable().await
    }

    fn try_read(&self, to: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(to)
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }
}
