//! The HTTP server: complete requests in, responses out. Routes are the core's affair, save for
//! `/metrics`, which are the host's.

mod door;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_channel::Sender;
use bytes::{Bytes, BytesMut};
use hax_core::base::fact::Fact;
use hax_core::base::id::HttpId;
use hax_core::http::port;
use hax_driver::metrics::{self, Metrics};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, EXPECT, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};

use crate::connect::Socket;

pub use door::{CertFiles, Door, Error};

/// A client that does not finish its head in this time is cut off.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// The longest head; above it the answer is 431.
const HEAD_MAX: usize = 64 << 10;

/// The most header lines.
const HEADERS_MAX: usize = 64;

/// What a server may take and how long it waits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest body, in bytes.
    pub body_max: usize,
    /// Connections at a time; the others wait in the system's backlog.
    pub connections_max: usize,
    /// How long a body may take to arrive.
    pub body_within: Duration,
}

/// The requests that await the core's response.
pub struct Http<I> {
    inner: Arc<Inner<I>>,
}

struct Inner<I> {
    waiting: Mutex<Waiting>,
    inbox: Sender<I>,
    wrap: fn(Box<port::Request>) -> I,
    limits: Limits,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Waiting {
    next: HttpId,
    by_id: BTreeMap<HttpId, oneshot::Sender<port::Response>>,
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
        let waiting = Mutex::default();
        Self { inner: Arc::new(Inner { waiting, inbox, wrap, limits, metrics }) }
    }

    /// Answers a request.
    pub fn execute(&self, response: port::Response) {
        // Its client may have gone away, then nobody waits.
        if let Some(client) = self.inner.waiting().by_id.remove(&response.id) {
            let _ = client.send(response);
        }
    }

    /// Answers all that still wait with 503, since the core will not.
    pub fn give_up(&self) {
        self.inner.waiting().by_id.clear();
    }

    /// Serves whom `door` lets in from `listener` until `stop` completes; then finishes what is being
    /// answered and closes.
    pub fn serve<S: Future<Output = ()>>(
        &self,
        listener: TcpListener,
        door: Arc<Door>,
        stop: S,
    ) -> impl Future<Output = ()> + use<I, S> {
        serve(Arc::clone(&self.inner), listener, door, stop)
    }
}

impl<I> Inner<I> {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve<I: Send + 'static>(
    inner: Arc<Inner<I>>,
    listener: TcpListener,
    door: Arc<Door>,
    stop: impl Future<Output = ()>,
) {
    let graceful = GracefulShutdown::new();
    let accept = async {
        let room = Arc::new(Semaphore::new(inner.limits.connections_max));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let (inner, door) = (Arc::clone(&inner), Arc::clone(&door));
                    let watcher = graceful.watcher();
                    tokio::spawn(async move {
                        if let Some(stream) = shake_hands(&door, stream).await {
                            connection(inner, door, stream, peer.ip(), watcher).await;
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
    futures_lite::future::or(stop, accept).await;
    drop(listener);
    graceful.shutdown().await;
}

/// Begins TLS, where it is served.
async fn shake_hands(door: &Door, stream: TcpStream) -> Option<Box<dyn Socket>> {
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = door.acceptor() else { return Some(Box::new(stream)) };
    match tokio::time::timeout(HEAD_WITHIN, acceptor.accept(stream)).await.ok()? {
        Ok(stream) => Some(Box::new(stream)),
        Err(why) => {
            tracing::debug!(target: "hax", %why, "an HTTP connection without TLS");
            None
        }
    }
}

async fn connection<I: Send + 'static>(
    inner: Arc<Inner<I>>,
    door: Arc<Door>,
    stream: Box<dyn Socket>,
    peer: IpAddr,
    watcher: Watcher,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (inner, door) = (Arc::clone(&inner), Arc::clone(&door));
        async move {
            let (begun, method) = (inner.metrics.begin(), request.method().clone());
            let response = admit(&inner, &door, peer, request).await;
            inner.metrics.http_answered(method.as_str(), response.status().as_u16(), begun);
            Ok::<_, Infallible>(response)
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

/// Whoever is let in is answered by the core, save for what only the host knows.
async fn admit<I>(
    inner: &Inner<I>,
    door: &Door,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let (method, path) = (request.method(), request.uri().path());
    if !door.lets_in(method, path, request.headers()) {
        let start: String = path.chars().take(100).collect();
        let why = format!("{method} {start} by {peer}, without hax's token").into();
        let http = inner.waiting().next.mint();
        inner.metrics.record(&Fact::HttpRefused { http, status: 401, why });
        return door::refusal();
    }
    if path == "/metrics" && matches!(*method, Method::GET | Method::HEAD) {
        let text = inner.metrics.render(inner.inbox.len());
        let mut response = Response::new(Full::new(Bytes::from(text)));
        let content_type = HeaderValue::from_static(metrics::CONTENT_TYPE);
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        return response;
    }
    answer(inner, request).await
}

async fn answer<I>(inner: &Inner<I>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    // A HEAD is a GET whose body hyper leaves out.
    let method = match request.method() {
        &Method::HEAD => "GET".into(),
        method => method.as_str().into(),
    };
    // What names a host and no path is not the root.
    let target = match request.uri().path_and_query() {
        Some(target) => target.as_str().into(),
        None => request.uri().to_string().into(),
    };
    let body = match tokio::time::timeout(inner.limits.body_within, body(inner, request)).await {
        Ok(Ok(body)) => body,
        Ok(Err(refusal)) => return *refusal,
        Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "the body came too slowly"),
    };
    let (respond, response) = oneshot::channel();
    let id = {
        let mut waiting = inner.waiting();
        let id = waiting.next.mint();
        waiting.by_id.insert(id, respond);
        id
    };
    // Forgets the request if its client goes away, which drops this future.
    let _forget = Forget(inner, id);
    let request = Box::new(port::Request { id, method, target, body });
    if inner.inbox.try_send((inner.wrap)(request)).is_err() {
        return unavailable("too much is waiting to be worked");
    }
    response.await.map_or_else(|_| unavailable("stopping"), from_core)
}

/// Reads the whole body. One that is too long is read on for a while and dropped: a client that is
/// still sending would see a reset instead of the answer.
async fn body<I>(
    inner: &Inner<I>,
    request: Request<Incoming>,
) -> Result<Bytes, Box<Response<Full<Bytes>>>> {
    let max = inner.limits.body_max;
    let read_on = max.saturating_mul(4);
    let too_large = || {
        let why = format!("a body has at most {max} bytes");
        Box::new(refuse(StatusCode::PAYLOAD_TOO_LARGE, &why))
    };
    let announced = usize::try_from(request.body().size_hint().lower()).unwrap_or(usize::MAX);
    let waits_for_leave = request.headers().contains_key(EXPECT);
    if announced > if waits_for_leave { max } else { read_on } {
        return Err(too_large());
    }
    let mut body = request.into_body();
    let mut bytes = BytesMut::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|_| Box::new(refuse(StatusCode::BAD_REQUEST, "the body is not complete")))?;
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length <= max {
            bytes.extend_from_slice(&data);
        } else if length > read_on {
            break;
        }
    }
    if length > max { Err(too_large()) } else { Ok(bytes.freeze()) }
}

struct Forget<'a, I>(&'a Inner<I>, HttpId);

impl<I> Drop for Forget<'_, I> {
    fn drop(&mut self) {
        self.0.waiting().by_id.remove(&self.1);
    }
}

fn from_core(response: port::Response) -> Response<Full<Bytes>> {
    let mut out = Response::new(Full::new(response.body));
    *out.status_mut() =
        StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in [(CONTENT_TYPE, response.content_type), (ALLOW, response.allow)] {
        if !value.is_empty() {
            out.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    out
}

fn unavailable(why: &str) -> Response<Full<Bytes>> {
    let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, why);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// An answer that the host gives by itself, in the shape of the core's.
fn refuse(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    let reason = status.canonical_reason().unwrap_or_default();
    let body = serde_json::json!({
        "status_code": status.as_u16(),
        "error_message": why,
        "error_type": reason,
        "reason": reason,
    });
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    // What is left of the request is not worth reading.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
