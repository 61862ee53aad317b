//! Tests of the requests that wait for the core, and of the inputs that the core gets for them.

use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use async_channel::Receiver;
use futures_lite::future::{block_on, poll_once, zip};
use futures_lite::{AsyncRead, AsyncWrite};
use hax_core::http::stream::Begin;

use super::*;
use crate::host::clock::Clock;
use crate::settings::secret::SecretSource;

fn pending(inbox: Sender<Box<port::Request>>) -> PendingRequests<Box<port::Request>> {
    let body_within = Duration::from_secs(1);
    let limits =
        Limits { body_max: 1, bodies_max: 2, connections_max: 1, streams_max: 1, body_within };
    let metrics = Arc::new(Metrics::new(Clock::new()));
    PendingRequests::new(inbox, |request| request, limits, metrics)
}

#[test]
fn a_request_waits_for_room_in_the_inbox() {
    let (sender, inbox) = crate::host::run::inbox(1);
    let pending = pending(sender);
    block_on(async {
        let mut first = Box::pin(pending.request("GET", "/first", Bytes::new(), Trust::Local));
        let mut second = Box::pin(pending.request("GET", "/second", Bytes::new(), Trust::Local));
        for _ in 0..3 {
            assert!(poll_once(&mut first).await.is_none());
            assert!(poll_once(&mut second).await.is_none(), "it was refused");
        }
        assert_eq!(inbox.recv().await.unwrap().target.as_ref(), "/first");
        assert!(poll_once(&mut second).await.is_none());
        assert_eq!(inbox.recv().await.unwrap().target.as_ref(), "/second");
    });
}

#[test]
fn who_waits_for_room_at_the_end_hears_of_it() {
    let (sender, inbox) = crate::host::run::inbox(1);
    let pending = pending(sender);
    block_on(async {
        let mut first = Box::pin(pending.request("GET", "/first", Bytes::new(), Trust::Local));
        let mut second = Box::pin(pending.request("GET", "/second", Bytes::new(), Trust::Local));
        assert!(poll_once(&mut first).await.is_none());
        assert!(poll_once(&mut second).await.is_none());
        inbox.close();
        pending.refuse_pending();
        assert!(matches!(first.await, Reply::Whole(answer) if answer.status == 503));
        assert!(matches!(second.await, Reply::Whole(answer) if answer.status == 503));
    });
}

#[test]
fn an_answer_that_is_begun_is_over_once_whoever_has_gone() {
    let (sender, inbox) = crate::host::run::inbox(1);
    let pending = pending(sender);
    let closed = pending.closed();
    let begin = |id| Command::Begin(Begin { id, status: 200, content_type: "" });
    // No client waits for this response.
    pending.stream(begin(HttpId(77)));
    assert_eq!(closed.try_recv(), Ok(Closed { id: HttpId(77), why: Why::Client }));
    // The client goes away before the stream reaches it.
    let mut asked = Box::pin(pending.request("GET", "/", Bytes::new(), Trust::Local));
    assert!(block_on(poll_once(&mut asked)).is_none());
    let id = inbox.try_recv().unwrap().id;
    pending.stream(begin(id));
    pending.stream(Command::Chunk { id, bytes: "said".into() });
    assert!(closed.is_empty());
    drop(asked);
    assert_eq!(closed.try_recv(), Ok(Closed { id, why: Why::Client }));
    pending.stream(Command::End { id });
    pending.refuse_pending();
    assert!(closed.is_empty());
}

/// The client's behaviour after it has sent its bytes.
#[derive(Clone)]
enum After {
    /// Closes its side.
    End,
    /// Waits for the response.
    Wait,
    /// Resets the connection.
    Reset,
    /// Sends chunks of one byte without end; the counter has the number of reads that returned some.
    Chunks(Arc<AtomicUsize>),
    /// Closes its side and accepts no more data, not even TLS's close_notify.
    Deaf,
}

/// A client that sends these bytes at once and reads all that it is sent.
struct Said(&'static [u8], After);

impl AsyncRead for Said {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        to: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.0.is_empty() {
            return match &self.1 {
                After::End | After::Deaf => Poll::Ready(Ok(0)),
                After::Wait => Poll::Pending,
                After::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                After::Chunks(reads) => {
                    reads.fetch_add(1, Ordering::Relaxed);
                    let chunks = to.chunks_exact_mut(6);
                    let n = 6 * chunks.len();
                    chunks.for_each(|chunk| chunk.copy_from_slice(b"1\r\n \r\n"));
                    Poll::Ready(Ok(n))
                }
            };
        }
        let n = self.0.len().min(to.len());
        to[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for Said {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(from.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.1, After::Deaf) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

/// Returns the connection of a client without TLS.
fn begun(client: Said) -> Ready<io::Result<Box<dyn Stream>>> {
    ready(Ok(Box::new(client)))
}

const NEVER: Sleep = |_| Box::pin(std::future::pending());

/// Creates a server with room for eight connections, and the receiver of its requests to the core.
fn server(sleep: Sleep) -> (Server<Box<port::Request>>, Receiver<Box<port::Request>>) {
    let (body_within, connections_max, streams_max) = (Duration::from_secs(1), 8, 4);
    let (body_max, bodies_max) = (100, 2000);
    server_of(Limits { body_max, bodies_max, connections_max, streams_max, body_within }, sleep)
}

fn server_of(
    limits: Limits,
    sleep: Sleep,
) -> (Server<Box<port::Request>>, Receiver<Box<port::Request>>) {
    let (inbox, requests) = crate::host::run::inbox(64);
    let metrics = Arc::new(Metrics::new(Clock::new()));
    (Server::new(inbox, |request| request, limits, metrics, sleep), requests)
}

fn at(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), 1)
}

/// Returns what the core is told of the sender of a request that comes from `peer` to `local`, or to the local
/// socket.
fn trust(access: &HttpAccess, peer: Option<&str>, local: &str, said: &'static [u8]) -> Trust {
    let (server, requests) = server(NEVER);
    let slot = peer.map_or_else(|| server.enter_local(), |peer| server.enter(at(peer), at(local)));
    let slot = slot.unwrap();
    let (_stop, stopped) = async_channel::bounded(1);
    let answered = async {
        let request = requests.recv().await.unwrap();
        server.pending().refuse_pending();
        request.trust
    };
    block_on(zip(server.serve(access, slot, stopped, begun(Said(said, After::End))), answered)).1
}

#[test]
fn f35_only_this_node_and_who_shows_the_token_is_believed_at_once() {
    const PLAIN: &[u8] = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n[]";
    const SHOWN: &[u8] = b"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer one\r\n\
        Content-Length: 2\r\n\r\n[]";
    const PROBE: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let open = HttpAccess::open();
    let path = std::env::temp_dir().join(format!("hax-trust-{}", std::process::id()));
    std::fs::write(&path, "one\n").unwrap();
    let locked = HttpAccess::new(None, Some(SecretSource::File("--http-token-file", path.clone())));
    let locked = locked.unwrap();
    std::fs::remove_file(path).unwrap();
    let (node, neighbour) = ("192.0.2.1", "192.0.2.7");
    for (access, peer, said, expected) in [
        (&open, Some("127.0.0.1"), PLAIN, Trust::Local),
        (&open, Some(node), PLAIN, Trust::Local),
        (&open, Some(neighbour), PLAIN, Trust::None),
        (&open, Some(neighbour), SHOWN, Trust::None),
        (&open, None, PLAIN, Trust::Authorized),
        (&locked, Some(node), PROBE, Trust::Local),
        (&locked, Some(node), SHOWN, Trust::Authorized),
        (&locked, Some(neighbour), PROBE, Trust::None),
        (&locked, Some(neighbour), SHOWN, Trust::Authorized),
    ] {
        let said_as = String::from_utf8_lossy(said);
        assert_eq!(trust(access, peer, node, said), expected, "{peer:?}: {said_as}");
    }
}

#[test]
fn f25_a_post_of_the_queue_that_is_refused_is_a_hint_all_the_same() {
    const TOO_LONG: &[u8] =
        b"POST /watcher/bq HTTP/1.1\r\nHost: h\r\nContent-Length: 101\r\n\r\n[]";
    const CUT_SHORT: &[u8] = b"POST /watcher/bq HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n[]";
    const OTHER: &[u8] = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 101\r\n\r\n[]";
    let heard = |said| {
        let (server, requests) = server(NEVER);
        let slot = server.enter(at("127.0.0.1"), at("127.0.0.1")).unwrap();
        let (_stop, stopped) = async_channel::bounded(1);
        let (access, said) = (HttpAccess::open(), begun(Said(said, After::End)));
        block_on(server.serve(&access, slot, stopped, said));
        requests.try_recv().ok().map(|request| (request.target, request.body))
    };
    let hint = Some(("/watcher/bq".into(), Bytes::from_static(b"null")));
    assert_eq!(heard(TOO_LONG), hint);
    assert_eq!(heard(CUT_SHORT), hint);
    assert_eq!(heard(OTHER), None);
}

const POST: &[u8] = b"POST /watcher/bq HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n[]";

type Served<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Serves a connection of this node until it makes no more progress.
fn client<'a>(
    server: &'a Server<Box<port::Request>>,
    access: &'a HttpAccess,
    client: Said,
) -> Option<Served<'a>> {
    let slot = server.enter(at("127.0.0.1"), at("127.0.0.1"))?;
    let (stop, stopped) = async_channel::bounded(1);
    let mut served: Served<'a> = Box::pin(async move {
        let _stop = stop;
        server.serve(access, slot, stopped, begun(client)).await;
    });
    (0..4).for_each(|_| assert!(block_on(poll_once(&mut served)).is_none()));
    Some(served)
}

#[test]
fn f36_who_has_gone_keeps_no_seat_while_the_core_has_its_request() {
    let (server, requests) = server(NEVER);
    let access = HttpAccess::open();
    let mut gone: Vec<_> = (0..20)
        .map(|n| {
            let gone = client(&server, &access, Said(POST, After::End));
            gone.unwrap_or_else(|| panic!("{n} is refused"))
        })
        .collect();
    assert_eq!(requests.len(), 20);
    let ended = gone.iter_mut().map(|gone| block_on(poll_once(gone)).is_some());
    assert_eq!(ended.collect::<Vec<_>>(), [[true; 12].as_slice(), &[false; 8]].concat());
}

#[test]
fn f36_who_waits_for_the_core_gives_way_when_there_is_no_other_room() {
    let (server, requests) = server(NEVER);
    let access = HttpAccess::open();
    let wait =
        |n| client(&server, &access, Said(POST, After::Wait)).unwrap_or_else(|| panic!("{n}"));
    let mut waiting: Vec<_> = (0..20).map(wait).collect();
    assert_eq!(requests.len(), 20);
    // The clients get a response, and their connections linger. The server no longer waits for the core's
    // responses.
    for one in &mut waiting {
        let _over = block_on(poll_once(one));
    }
    assert_eq!(server.pending().waiting().by_id.len(), 8 + 2);
}

#[test]
fn f36_a_reset_ends_what_the_core_has() {
    let (server, _requests) = server(NEVER);
    let access = HttpAccess::open();
    let slot = server.enter(at("127.0.0.1"), at("127.0.0.1")).unwrap();
    let (_stop, stopped) = async_channel::bounded(1);
    let gone = begun(Said(POST, After::Reset));
    let mut served = Box::pin(server.serve(&access, slot, stopped, gone));
    assert!(block_on(poll_once(&mut served)).is_some(), "it is over");
    assert!(server.pending().waiting().by_id.is_empty());
}

#[test]
fn f37_the_smallest_chunks_leave_the_others_their_turn() {
    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body_within = Duration::from_secs(1);
    let (body_max, bodies_max, connections_max, streams_max) = (1 << 20, 4 << 20, 8, 4);
    let limits = Limits { body_max, bodies_max, connections_max, streams_max, body_within };
    let (server, _requests) = server_of(limits, NEVER);
    let (access, reads) = (HttpAccess::open(), Arc::new(AtomicUsize::new(0)));
    let mut served =
        client(&server, &access, Said(HEAD, After::Chunks(Arc::clone(&reads)))).unwrap();
    for _ in 0..40 {
        assert!(block_on(poll_once(&mut served)).is_none(), "it is not too long yet");
    }
    // One read holds 2,730 chunks.
    let reads = reads.load(Ordering::Relaxed);
    assert!((1..=2).contains(&reads), "{reads} reads in so few turns");
}

#[test]
fn f38_who_takes_no_last_word_is_not_waited_for() {
    // Every timeout expires as soon as there is nothing else to do.
    let at_once: Sleep = |_| Box::pin(ready(()));
    let access = HttpAccess::open();
    for said in [&b""[..], b"nonsense\r\n\r\n"] {
        // A client that needs the slot does not wait for the timeout either.
        for (sleep, others) in [(at_once, 0), (NEVER, 20)] {
            let (server, _requests) = server(sleep);
            let slot = server.enter(at("127.0.0.1"), at("127.0.0.1")).unwrap();
            let (_stop, stopped) = async_channel::bounded(1);
            let deaf = begun(Said(said, After::Deaf));
            let mut served = Box::pin(server.serve(&access, slot, stopped, deaf));
            let mut is_over = block_on(poll_once(&mut served)).is_some();
            let mut slots = Vec::new();
            for _ in 0..others {
                slots.push(server.enter(at("127.0.0.1"), at("127.0.0.1")).unwrap());
                is_over = is_over || block_on(poll_once(&mut served)).is_some();
            }
            assert!(is_over, "after {others} others");
        }
    }
}

#[test]
fn f39_what_is_no_head_is_counted_and_told_of() {
    let (server, _requests) = server(NEVER);
    let pending = server.pending();
    for status in [400, 414, 417, 431, 501] {
        let answer = pending.refuse_head(at("192.0.2.7").ip(), status);
        assert_eq!(answer.status, status);
        assert!(answer.headers.contains(&("connection", "close")));
        let text = pending.metrics().render(0);
        let series = format!(
            "hax_http_request_duration_seconds_count{{method=\"other\",code=\"{status}\"}} 1"
        );
        assert!(text.contains(&series), "{status}: {text}");
    }
    let series = "hax_facts_total{fact=\"HttpRefused\",level=\"info\"} 5";
    let text = pending.metrics().render(0);
    assert!(text.contains(series), "{text}");
}
