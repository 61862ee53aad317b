//! The wire's sockets on smol; what they carry is `hax_driver::net`'s.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_channel::Sender;
use async_io::Async;
use bytes::Bytes;
use hax_core::wire::net;
use hax_driver::host::platform;
use hax_driver::net::{self as connections, Accepting, Connections, Place, Read, Write};

use crate::platform::Smol;
use crate::tasks::{self, Turn};

/// What one read takes at most. What a peer says is a few hundred bytes, save for NVEC messages.
const SCRATCH: usize = 64 << 10;

/// What is read goes through here; only its bytes are kept.
type Scratch = Rc<RefCell<Box<[u8]>>>;

/// All connections of one endpoint.
pub struct Net<I> {
    connections: Arc<Connections<I>>,
    scratch: Scratch,
}

impl<I: Send + 'static> platform::Net<I> for Net<I> {
    type Listener = Async<TcpListener>;

    fn new(inbox: Sender<I>, wrap: fn(net::Event) -> I) -> Self {
        let scratch = Rc::new(RefCell::new(vec![0; SCRATCH].into()));
        Self { connections: Connections::new(inbox, wrap), scratch }
    }

    fn execute(&self, command: net::Command) {
        match command {
            net::Command::Connect { conn, from, to } => {
                let Some(task) = self.connections.enter(conn) else { return };
                let scratch = Rc::clone(&self.scratch);
                let attempt = async move {
                    let stream = Async::new_nonblocking(connections::dial(from, to)?)?;
                    stream.writable().await?;
                    let failed = stream.get_ref().take_error()?;
                    failed.map_or(Ok(Socket { stream, scratch }), Err)
                };
                let all = Arc::clone(&self.connections);
                let life = connections::connect::<Smol, _, _>(all, conn, task, to, attempt);
                tasks::spawn(life).detach();
            }
            net::Command::Write { conn, segments } => self.connections.write(conn, segments),
            net::Command::Close { conn } => self.connections.leave(conn),
            net::Command::Cut { conn } => self.connections.cut(conn),
        }
    }

    async fn listen(&self, listener: &Async<TcpListener>, max: usize) {
        let (mut turn, mut accepting) = (Turn::default(), Accepting::new(max));
        loop {
            turn.done().await;
            let place = accepting.place().await;
            let accepted = listener.accept().await;
            if let Some((stream, peer)) = accepting.accepted::<Smol, _>(accepted).await {
                self.serve(stream, peer, Some(place));
            }
        }
    }

    async fn shut_down(&self, listener: Option<Async<TcpListener>>, within: Duration) {
        if let Some(listener) = listener {
            let take = |stream, peer| match Async::new_nonblocking(stream) {
                Ok(stream) => self.serve(stream, peer, None),
                Err(why) => tracing::warn!(target: "hax", %why, "a connection of Motr is reset"),
            };
            connections::take_rest::<Smol>(&listener, take).await;
        }
        self.connections.shut_down::<Smol>(within).await;
    }
}

impl<I: Send + 'static> Net<I> {
    /// Serves an accepted connection.
    fn serve(&self, stream: Async<TcpStream>, peer: SocketAddr, place: Option<Place>) {
        let Some((conn, task)) = self.connections.accept(place) else { return };
        let all = Arc::clone(&self.connections);
        let socket = Socket { stream, scratch: Rc::clone(&self.scratch) };
        let life = async move {
            let first = net::Event::Accepted { conn, peer };
            connections::run::<Smol, _, _>(all, conn, task, socket, first).await;
        };
        tasks::spawn(life).detach();
    }
}

struct Socket {
    stream: Async<TcpStream>,
    scratch: Scratch,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl connections::Socket for Socket {
    type Reader<'a> = Reader<'a>;
    type Writer<'a> = Writer<'a>;

    fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        let Self { stream, scratch } = &*self;
        let reader = Reader { stream, scratch, turn: Turn::default() };
        (reader, Writer { stream, turn: Turn::default() })
    }
}

struct Reader<'a> {
    stream: &'a Async<TcpStream>,
    scratch: &'a Scratch,
    turn: Turn,
}

impl Read for Reader<'_> {
    async fn read(&mut self) -> io::Result<Bytes> {
        self.turn.done().await;
        let read = self.stream.read_with(|mut stream| {
            let mut scratch = self.scratch.borrow_mut();
            let n = stream.read(&mut scratch)?;
            Ok(Bytes::copy_from_slice(&scratch[..n]))
        });
        read.await
    }
}

struct Writer<'a> {
    stream: &'a Async<TcpStream>,
    turn: Turn,
}

impl Write for Writer<'_> {
    async fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.turn.done().await;
        self.stream.write_with(|mut stream| stream.write_vectored(slices)).await
    }

    async fn end(&mut self) {
        let _ = self.stream.get_ref().shutdown(Shutdown::Write);
    }
}
