//! Programs for comparison, with the minimum work to answer the same peers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use hax_benches::plain;
use hax_core::base::fid::Fid;
use hax_core::base::id::SendId;
use hax_core::base::time::Next;
use hax_core::ha::entrypoint::{Confd, Entrypoint};
use hax_core::ha::motr::{Command, Event, Purpose};
use hax_core::net;
use hax_core::wire::{Config, Endpoint, Input, Output};
use hax_driver::host::clock;
use hax_driver::host::serve::serve;
use hax_tokio::Tokio;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Answers every entrypoint request with the same entrypoint, and every question with the states in it, at
/// once: hax without the bridge and without Consul.
pub(crate) async fn constant(address: SocketAddr, confds: u64) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let mut endpoint = Endpoint::new(Config::new(address, clock::wall().0, 1));
    let answer = Arc::new(entrypoint(confds));
    let mut said = Vec::new();
    let mut sends = SendId(1);
    let machine = |now, input, out: &mut Vec<net::Command>| {
        let mut next = endpoint.handle(now, input, &mut said);
        let mut answers = Vec::new();
        loop {
            for output in said.drain(..) {
                match output {
                    Output::Net(command) => out.push(command),
                    Output::Motr(Event::Asked(request)) => {
                        let reply = Ok(Arc::clone(&answer));
                        answers.push(Command::Reply { entry: request.entry, reply });
                    }
                    Output::Motr(Event::Received { link, msg, message }) => {
                        let (send, to) = (sends.mint(), [link].into());
                        answers.push(Command::Send {
                            send,
                            to,
                            message: Arc::new(*message),
                            purpose: Purpose::States,
                        });
                        answers.push(Command::Ack { link, msg });
                    }
                    Output::Motr(_) | Output::Fact(_) => {}
                }
            }
            if answers.is_empty() {
                break;
            }
            for answer in answers.drain(..) {
                next = endpoint.handle(now, Input::Motr(answer), &mut said);
            }
        }
        debug_assert!(next != Next::Exit, "nobody stops it");
        next
    };
    serve::<Tokio>(listener, 4096, machine).await;
    Ok(())
}

fn entrypoint(confds: u64) -> Entrypoint {
    let endpoint: Box<str> = "inet:stream:127.0.1.1@22002".into();
    let confd = |key| Confd { fid: Fid::process(key), endpoint: endpoint.clone() };
    let confds = (0..confds).map(confd).collect();
    Entrypoint { quorum: 12, confds, rm: Fid::service(1), rm_endpoint: endpoint }
}

/// Accepts posts, reads them into plain structs and responds with 200.
pub(crate) async fn parsing(address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let serve = |request: Request<hyper::body::Incoming>| async {
            let body = request.into_body().collect().await?.to_bytes();
            let said = if body.is_empty() { 0 } else { plain::read(&body) };
            let answer = Full::new(Bytes::from_static(b"{}"));
            let mut response = Response::new(answer);
            response.headers_mut().insert("x-checks", said.into());
            Ok::<_, hyper::Error>(response)
        };
        tokio::spawn(async move {
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(stream), service_fn(serve)).await;
            Ok::<(), Infallible>(())
        });
    }
}
