//! Accepting the wire's peers.

use std::sync::Arc;
use std::time::Duration;

use hax_core::base::id::ConnId;
use hax_core::wire::net;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::Net;
use super::connection;

/// Accepts connections for as long as the task that calls it lives, `max` at a time; who comes
/// when all are taken waits in the system's backlog.
pub async fn listen<I: Send + 'static>(net: &Net<I>, listener: TcpListener, max: usize) {
    let room = Arc::new(Semaphore::new(max));
    let mut accepted = 0;
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
        let conn = ConnId::accepted(accepted);
        accepted += 1;
        let Some(task) = net.inner.enter(conn) else { return };
        let inner = Arc::clone(&net.inner);
        tokio::spawn(async move {
            let first = net::Event::Accepted { conn, peer };
            connection::run(inner, conn, task, stream, first).await;
            drop(permit);
        });
    }
}
