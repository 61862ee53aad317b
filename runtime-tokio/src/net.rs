//! The wire's sockets on tokio; what they carry is `hax_driver::net`'s.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use async_channel::Sender;
use bytes::{Bytes, BytesMut};
use hax_core::wire::net;
use hax_driver::net::{self as connections, Connections, Read, Socket, Write};
use hax_driver::platform;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::platform::Tokio;

/// One read's buffer; what is left of it serves the next reads.
const READ_BUFFER: usize = 64 << 10;

/// Below this a new buffer is made instead.
const READ_LEAST: usize = 8 << 10;

/// All connections of one endpoint.
pub struct Net<I> {
    connections: Arc<Connections<I>>,
}

impl<I: Send + 'static> platform::Net<I> for Net<I> {
    type Listener = TcpListener;

    fn new(inbox: Sender<I>, wrap: fn(net::Event) -> I) -> Self {
        Self { connections: Connections::new(inbox, wrap) }
    }

    fn execute(&self, command: net::Command) {
        match command {
            net::Command::Connect { conn, from, to } => {
                let Some(task) = self.connections.enter(conn) else { return };
                let attempt = async move {
                    let stream = TcpStream::from_std(connections::dial(from, to)?)?;
                    stream.writable().await?;
                    stream.take_error()?.map_or(Ok(Stream(stream)), Err)
                };
                let all = Arc::clone(&self.connections);
                tokio::spawn(connections::connect::<Tokio, _, _>(all, conn, task, to, attempt));
            }
            net::Command::Write { conn, segments } => self.connections.write(conn, segments),
            net::Command::Close { conn } => self.connections.leave(conn),
        }
    }

    async fn listen(&self, listener: &TcpListener, max: usize) {
        let room = Arc::new(Semaphore::new(max));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let (stream, peer) = match listener.accept().await {
                Ok(pair) => pair,
                Err(why) => {
                    // Out of descriptors, most likely: others must end first.
                    tracing::warn!(target: "hax", %why, "cannot accept a connection of Motr");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            self.serve(stream, peer, Some(permit));
        }
    }

    async fn shut_down(&self, listener: Option<TcpListener>, within: Duration) {
        if let Some(listener) = listener {
            let take = |stream, peer| match TcpStream::from_std(stream) {
                Ok(stream) => self.serve(stream, peer, None),
                Err(why) => tracing::warn!(target: "hax", %why, "a connection of Motr is reset"),
            };
            connections::take_rest::<Tokio>(&listener, take).await;
        }
        self.connections.shut_down::<Tokio>(within).await;
    }
}

impl<I: Send + 'static> Net<I> {
    /// Serves an accepted connection.
    fn serve(&self, stream: TcpStream, peer: SocketAddr, permit: Option<OwnedSemaphorePermit>) {
        let Some((conn, task)) = self.connections.accept() else { return };
        let all = Arc::clone(&self.connections);
        tokio::spawn(async move {
            let first = net::Event::Accepted { conn, peer };
            connections::run::<Tokio, _, _>(all, conn, task, Stream(stream), first).await;
            drop(permit);
        });
    }
}

struct Stream(TcpStream);

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Socket for Stream {
    type Reader<'a> = Reader<'a>;
    type Writer<'a> = Writer<'a>;

    fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        let (read, write) = self.0.split();
        (Reader { half: read, buffer: BytesMut::new() }, Writer(write))
    }
}

struct Reader<'a> {
    half: ReadHalf<'a>,
    buffer: BytesMut,
}

impl Read for Reader<'_> {
    async fn read(&mut self) -> io::Result<Bytes> {
        if self.buffer.capacity() < READ_LEAST {
            self.buffer = BytesMut::with_capacity(READ_BUFFER);
        }
        self.half.read_buf(&mut self.buffer).await?;
        Ok(self.buffer.split().freeze())
    }
}

struct Writer<'a>(WriteHalf<'a>);

impl Write for Writer<'_> {
    async fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(slices).await
    }

    async fn end(&mut self) {
        let _ = self.0.shutdown().await;
    }
}
