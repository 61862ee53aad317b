//! The Consul double as a server of its own.

use std::net::SocketAddr;
use std::sync::mpsc::channel;

use hax_driver::host::clock::Clock;
use hax_sim::cluster::{Cluster, Endpoints, Shape};
use hax_sim::real::client;
use hax_tokio::demo::double;

use super::LIMIT;

/// Starts a Consul double with hare's configuration of three nodes. It runs until the test's program ends.
pub(crate) fn consul() -> SocketAddr {
    let (say, at) = channel();
    std::thread::spawn(move || {
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        rt.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            say.send(listener.local_addr().unwrap()).unwrap();
            double::serve(listener, "ssu1", Clock::new()).await;
        });
    });
    let at = at.recv().unwrap();
    let shape = Shape::like_hare(3).with_endpoints(Endpoints::Sock);
    let loaded = Cluster::generate(&shape).load("ssu1", |step, target| {
        let reply = client::request(at, LIMIT, step.method, target, step.body.as_bytes());
        let reply = reply.map_err(|why| why.to_string())?;
        if reply.status == 200 { Ok(reply.body) } else { Err(reply.text()) }
    });
    loaded.unwrap();
    at
}
