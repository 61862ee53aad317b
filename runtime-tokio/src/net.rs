//! The wire's sockets on tokio; what they carry is `hax_driver::net`'s.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use async_channel::Sender;
use bytes::Bytes;
use hax_core::wire::net;
use hax_driver::host::platform;
use hax_driver::net::{self as connections, Accepting, Connections, Place, Read, Socket, Write};
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::platform::Tokio;

/// What one read takes at most. What a peer says is a few hundred bytes, save for NVEC messages.
const SCRATCH: usize = 64 << 10;

thread_local! {
    /// What is read goes through here; only its bytes are kept. A buffer for each connection would be
    /// memory that any peer can have hax take.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

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
            net::Command::Cut { conn } => self.connections.cut(conn),
        }
    }

    async fn listen(&self, listener: &TcpListener, max: usize) {
        let mut accepting = Accepting::new(max);
        loop {
            let place = accepting.place().await;
            let accepted = listener.accept().await;
            if let Some((stream, peer)) = accepting.accepted::<Tokio, _>(accepted).await {
                self.serve(stream, peer, Some(place));
            }
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
    fn serve(&self, stream: TcpStream, peer: SocketAddr, place: Option<Place>) {
        let Some((conn, task)) = self.connections.accept(place) else { return };
        let all = Arc::clone(&self.connections);
        tokio::spawn(async move {
            let first = net::Event::Accepted { conn, peer };
            connections::run::<Tokio, _, _>(all, conn, task, Stream(stream), first).await;
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
        (Reader(read), Writer(write))
    }
}

struct Reader<'a>(ReadHalf<'a>);

impl Read for Reader<'_> {
    async fn read(&mut self) -> io::Result<Bytes> {
        loop {
            self.0.readable().await?;
            let read: io::Result<_> = READ.with_borrow_mut(|scratch| {
                let n = self.0.try_read(scratch)?;
                Ok(Bytes::copy_from_slice(&scratch[..n]))
            });
            match read {
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
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
