//! The port to Motr's processes: connections of the wire are accepted and made here, and run by
//! [`Connections`]. [`net::Command`] in, [`net::Event`] out.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_channel::Sender;
use hax_core::net;
use socket2::SockRef;

use super::platform::{Platform, Task as _};
use super::step_budget::StepBudget;
use crate::net::{self as connections, AcceptLimit, Connections, Permit, Socket as _};

/// All connections of one endpoint.
pub struct Net<P, I> {
    connections: Arc<Connections<I>>,
    platform: PhantomData<fn() -> P>,
}

impl<P: Platform, I: 'static> Net<P, I> {
    /// Creates a port without connections. `wrap` converts events into inputs, which are put in `inbox`.
    #[must_use]
    pub fn new(inbox: Sender<I>, wrap: fn(net::Event) -> I) -> Self {
        Self { connections: Connections::new(inbox, wrap), platform: PhantomData }
    }

    /// Executes a command of the core.
    pub fn execute(&self, command: net::Command) {
        match command {
            net::Command::Connect { conn, from, to } => {
                let Some(task) = self.connections.add_opened(conn) else { return };
                let attempt = async move {
                    let socket = P::socket(connections::dial(from, to)?)?;
                    socket.writable().await?;
                    let failed = SockRef::from(&socket).take_error()?;
                    failed.map_or(Ok(socket), Err)
                };
                let all = Arc::clone(&self.connections);
                let life = connections::connect::<P, _, _>(all, conn, task, to, attempt);
                P::spawn(life).detach();
            }
            net::Command::Write { conn, segments } => self.connections.write(conn, segments),
            net::Command::Close { conn } => self.connections.close(conn),
            net::Command::Cut { conn } => self.connections.cut(conn),
        }
    }

    /// Accepts connections for as long as it is polled, at most `max` at a time. Further connections wait in
    /// the system's backlog.
    pub async fn listen(&self, listener: &P::Listener, max: usize) -> ! {
        // With 8 steps a turn, a starting process waits for seconds behind other clients in the backlog. With
        // 64, a flood of garbage delays everything else.
        let (mut budget, mut accepting) = (StepBudget::of(24), AcceptLimit::new(max));
        loop {
            budget.step().await;
            let permit = accepting.permit().await;
            let accepted = P::accept(listener).await;
            if let Some((socket, peer)) = accepting.on_accepted::<P, _>(accepted).await {
                self.serve(socket, peer, Some(permit));
            }
        }
    }

    /// Closes all connections as [`net::Command::Close`] does and accepts no new ones; waits at most `within`
    /// for the peers to close their sides.
    ///
    /// Connections in the backlog of `listener` are accepted first and closed in the same way, since closing
    /// a listener would reset them.
    pub async fn shut_down(&self, listener: Option<P::Listener>, within: Duration) {
        if let Some(listener) = listener {
            let take = |stream, peer| match P::socket(stream) {
                Ok(socket) => self.serve(socket, peer, None),
                Err(why) => tracing::warn!(target: "hax", %why, "a connection of Motr is reset"),
            };
            connections::drain_backlog::<P>(&listener, take).await;
        }
        self.connections.shut_down::<P>(within).await;
    }

    /// Serves an accepted connection.
    fn serve(&self, socket: P::Socket, peer: SocketAddr, permit: Option<Permit>) {
        let Some((conn, task)) = self.connections.add_accepted(permit) else { return };
        let all = Arc::clone(&self.connections);
        let first = net::Event::Accepted { conn, peer };
        P::spawn(connections::run::<P, _, _>(all, conn, task, socket, first)).detach();
    }
}
