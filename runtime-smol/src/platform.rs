//! The platform of this runtime for the program's commands.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_rustls::TlsAcceptor;
use hax_driver::consul::Address;
use hax_driver::host::platform::{self, Platform, Request};
use hax_driver::host::signals::Signals;
use hax_driver::host::timer::Timer;
use hax_driver::http::Stream;
use hax_driver::net;
use rustls::{ClientConfig, ServerConfig};
use smol::io::{AsyncRead, AsyncWrite};
use smol::{Async, Timer as At};

use crate::consul::{self, Client};
use crate::{signals, tasks};

/// smol on one thread; blocking work has threads of its own.
pub struct Smol;

impl Timer for Smol {
    async fn sleep(time: Duration) {
        At::after(time).await;
    }

    async fn sleep_until(at: Instant) {
        At::at(at).await;
    }

    async fn yield_now() {
        smol::future::yield_now().await;
    }
}

impl Platform for Smol {
    type Client = Client;
    type Listener = Async<TcpListener>;
    type LocalListener = Async<UnixListener>;
    type Socket = Socket;
    type Task<T: 'static> = Task<T>;

    // This is as much as a node with little memory can spare.
    const HTTP_BODIES_MAX: usize = 8 << 20;

    fn block_on<T>(program: impl Future<Output = T>) -> io::Result<T> {
        Ok(tasks::block_on(program))
    }

    fn spawn<T: 'static>(task: impl Future<Output = T> + 'static) -> Task<T> {
        Task(tasks::spawn(task))
    }

    fn signals(reload: bool) -> io::Result<Signals> {
        signals::install(reload)
    }

    async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        consul::lookup(host, port).await
    }

    fn listener(listener: TcpListener) -> io::Result<Self::Listener> {
        Async::new_nonblocking(listener)
    }

    fn local_listener(listener: UnixListener) -> io::Result<Self::LocalListener> {
        Async::new_nonblocking(listener)
    }

    async fn accept_local(listener: &Self::LocalListener) -> io::Result<Box<dyn Stream>> {
        let (socket, _) = listener.accept().await?;
        Ok(Box::new(Closing(socket)))
    }

    fn socket(socket: TcpStream) -> io::Result<Socket> {
        Ok(Socket(Async::new_nonblocking(socket)?))
    }

    async fn accept(listener: &Self::Listener) -> io::Result<(Socket, SocketAddr)> {
        let (socket, peer) = listener.accept().await?;
        Ok((Socket(socket), peer))
    }

    async fn stream(
        Socket(socket): Socket,
        tls: Option<Arc<ServerConfig>>,
    ) -> io::Result<Box<dyn Stream>> {
        let socket = Closing(socket);
        Ok(match tls {
            None => Box::new(socket),
            Some(tls) => Box::new(TlsAcceptor::from(tls).accept(socket).await?),
        })
    }

    async fn ask(
        address: &Address,
        tls: Option<Arc<ClientConfig>>,
        request: Request<'_>,
    ) -> anyhow::Result<(u16, Bytes)> {
        consul::ask(address, tls, request).await
    }
}

/// A task on this thread.
pub struct Task<T>(smol::Task<T>);

impl<T> platform::Task<T> for Task<T> {
    fn detach(self) {
        self.0.detach();
    }

    fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// A TCP connection.
pub struct Socket(Async<TcpStream>);

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
        self.0.get_ref().read(to)
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.get_ref().write_vectored(slices)
    }
}

/// A socket whose close shuts down its sending side. async-io's own close does not: it acts only when it is
/// dropped.
struct Closing<S>(Async<S>);

/// A socket whose sending side can be shut down.
trait ShutDown {
    /// Shuts the sending side down.
    fn shut_down(&self) -> io::Result<()>;
}

impl ShutDown for TcpStream {
    fn shut_down(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl ShutDown for UnixStream {
    fn shut_down(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl<S> AsyncRead for Closing<S>
where
    Async<S>: AsyncRead + Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, to)
    }
}

impl<S: ShutDown> AsyncWrite for Closing<S>
where
    Async<S>: AsyncWrite + Unpin,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.get_ref().shut_down())
    }
}
