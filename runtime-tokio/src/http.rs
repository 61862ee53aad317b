//! The HTTP server: complete requests in, responses out.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use futures_lite::future::or;
use hax_core::http::port;
use hax_driver::http::{self, Answer, Body, Desk, HEAD_MAX, HEAD_WITHIN, HEADERS_MAX, Head};
use hax_driver::metrics::Metrics;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{AUTHORIZATION, EXPECT, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::connect::Socket;

pub use hax_driver::http::{Door, Limits};

/// The requests that await the core's response.
pub struct Http<I> {
    desk: Arc<Desk<I>>,
    /// For connections, of all listeners together.
    room: Arc<Semaphore>,
}

impl<I: Send + 'static> Http<I> {
    /// No requests yet. They are put in `inbox`, as `wrap` makes them inputs.
    #[must_use]
    pub fn new(
        inbox: Sender<I>,
        wrap: fn(Box<port::Request>) -> I,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Self {
        let room = Arc::new(Semaphore::new(limits.connections_max));
        Self { desk: Arc::new(Desk::new(inbox, wrap, limits, metrics)), room }
    }

    /// Answers a request.
    pub fn execute(&self, response: port::Response) {
        self.desk.respond(response);
    }

    /// Answers all that still wait with 503, since the core will not.
    pub fn give_up(&self) {
        self.desk.give_up();
    }

    /// [Serves](Self::serve) from all that `listeners` brings, until `stop` is closed.
    pub fn serve_all(
        &self,
        listeners: Receiver<TcpListener>,
        door: Arc<Door>,
        stop: Receiver<Infallible>,
    ) -> impl Future<Output = ()> + use<I> {
        let (desk, room) = (Arc::clone(&self.desk), Arc::clone(&self.room));
        async move {
            let mut each = JoinSet::new();
            let all = async {
                while let Ok(listener) = listeners.recv().await {
                    let (desk, room, door) = (desk.clone(), room.clone(), door.clone());
                    each.spawn(serve(desk, room, listener, door, closed(stop.clone())));
                }
                std::future::pending().await
            };
            or(closed(stop.clone()), all).await;
            while each.join_next().await.is_some() {}
        }
    }

    /// Serves whom `door` lets in from `listener` until `stop` completes; then finishes what is being
    /// answered and closes.
    pub fn serve<S: Future<Output = ()>>(
        &self,
        listener: TcpListener,
        door: Arc<Door>,
        stop: S,
    ) -> impl Future<Output = ()> + use<I, S> {
        serve(Arc::clone(&self.desk), Arc::clone(&self.room), listener, door, stop)
    }
}

async fn closed(stop: Receiver<Infallible>) {
    let Err(_closed) = stop.recv().await;
}

async fn serve<I: Send + 'static>(
    desk: Arc<Desk<I>>,
    room: Arc<Semaphore>,
    listener: TcpListener,
    door: Arc<Door>,
    stop: impl Future<Output = ()>,
) {
    let graceful = GracefulShutdown::new();
    let accept = async {
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let (desk, door) = (Arc::clone(&desk), Arc::clone(&door));
                    let watcher = graceful.watcher();
                    tokio::spawn(async move {
                        if let Some(stream) = shake_hands(&door, stream).await {
                            connection(desk, door, stream, peer.ip(), watcher).await;
                        }
                        drop(permit);
                    });
                }
                Err(why) => {
                    tracing::warn!(target: "hax", %why, "cannot accept an HTTP connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    or(stop, accept).await;
    drop(listener);
    graceful.shutdown().await;
}

/// Begins TLS, where it is served.
async fn shake_hands(door: &Door, stream: TcpStream) -> Option<Box<dyn Socket>> {
    let _ = stream.set_nodelay(true);
    let Some(tls) = door.tls() else { return Some(Box::new(stream)) };
    match tokio::time::timeout(HEAD_WITHIN, TlsAcceptor::from(tls).accept(stream)).await.ok()? {
        Ok(stream) => Some(Box::new(stream)),
        Err(why) => {
            tracing::debug!(target: "hax", %why, "an HTTP connection without TLS");
            None
        }
    }
}

async fn connection<I: Send + 'static>(
    desk: Arc<Desk<I>>,
    door: Arc<Door>,
    stream: Box<dyn Socket>,
    peer: IpAddr,
    watcher: Watcher,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (desk, door) = (Arc::clone(&desk), Arc::clone(&door));
        async move {
            let (begun, method) = (desk.metrics().begin(), request.method().clone());
            let answer = answer(&desk, &door, peer, request).await;
            desk.metrics().http_answered(method.as_str(), answer.status, begun);
            Ok::<_, Infallible>(response(answer))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(why) = watcher.watch(connection).await {
        tracing::debug!(target: "hax", %why, "an HTTP connection ended");
    }
}

async fn answer<I>(
    desk: &Desk<I>,
    door: &Door,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Answer {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let authorization = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let known = Head { method: method.as_str(), path: uri.path(), authorization: None, peer };
    if let Some(answer) = desk.admit(door, Head { authorization, ..known }) {
        return answer;
    }
    let body = match tokio::time::timeout(desk.limits.body_within, body(desk, request)).await {
        Ok(Ok(body)) => body,
        Ok(Err(refusal)) => return desk.incomplete(known, refusal),
        Err(_) => return desk.incomplete(known, http::too_slow()),
    };
    match uri.path_and_query() {
        Some(target) => desk.ask(method.as_str(), target.as_str(), body).await,
        // What names a host and no path is not the root.
        None => desk.ask(method.as_str(), &uri.to_string(), body).await,
    }
}

async fn body<I>(desk: &Desk<I>, request: Request<Incoming>) -> Result<Bytes, Answer> {
    let announced = request.body().size_hint().lower();
    let waits = request.headers().contains_key(EXPECT);
    let mut whole = Body::new(desk.limits.body_max, announced, waits)?;
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| http::incomplete())?.into_data() else { continue };
        if !whole.push(&data) {
            break;
        }
    }
    whole.finish()
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.headers {
        let name = HeaderName::from_static(name);
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
