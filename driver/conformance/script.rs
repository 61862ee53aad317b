//! A server in front of the double that handles each request by a rule.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hax_sim::real::client;

/// A time limit longer than the wait of a blocking query.
const PATIENCE: Duration = Duration::from_secs(90);

/// A request as it was received.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    /// The headers, sorted, with names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn blocks(&self) -> bool {
        self.target.contains("index=")
    }
}

/// The action for a request.
#[derive(Clone)]
pub(crate) enum Act {
    /// Pass the double's response on, and keep the connection.
    Pass,
    /// Pass the double's response on, and close the connection without announcing it.
    PassAndClose,
    /// Send these bytes and close.
    Say(Vec<u8>),
    /// Send these bytes, two hundred a second.
    Dribble(Vec<u8>),
    /// Send these bytes and reset.
    Reset(Vec<u8>),
    /// Convert the double's response into these bytes.
    Change(fn(&client::Reply) -> Vec<u8>),
    /// Send nothing until the client goes away.
    Hang,
}

type Rule = dyn Fn(&Asked) -> Act + Send + Sync;

struct Inner {
    consul: SocketAddr,
    rule: Mutex<Arc<Rule>>,
    asked: Mutex<Vec<Asked>>,
    hanging: AtomicUsize,
    left: AtomicUsize,
}

/// The server. Its threads end with the test's program.
pub(crate) struct Script {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
}

impl Script {
    /// Starts a server that passes every request on.
    pub(crate) fn new(consul: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let rule: Arc<Rule> = Arc::new(|_: &Asked| Act::Pass);
        let inner = Arc::new(Inner {
            consul,
            rule: Mutex::new(rule),
            asked: Mutex::default(),
            hanging: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&inner);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let inner = Arc::clone(&shared);
                // A failed client does not concern the others.
                std::thread::spawn(move || drop(inner.serve(&stream)));
            }
        });
        Self { address, inner }
    }

    pub(crate) fn set(&self, rule: impl Fn(&Asked) -> Act + Send + Sync + 'static) {
        *self.inner.rule.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(rule);
    }

    /// Takes the requests since the last call.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.inner.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the number of requests that hang now.
    pub(crate) fn hanging(&self) -> usize {
        self.inner.hanging.load(Ordering::Relaxed)
    }

    /// Returns the number of clients that left a hanging request.
    pub(crate) fn left(&self) -> usize {
        self.inner.left.load(Ordering::Relaxed)
    }
}

impl Inner {
    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut from = BufReader::new(stream);
        let mut to = stream;
        while let Some(asked) = read(&mut from)? {
            let rule = Arc::clone(&self.rule.lock().unwrap_or_else(PoisonError::into_inner));
            let act = rule(&asked);
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
            match act {
                Act::Pass => to.write_all(&plain(&self.pass(&asked)?, "keep-alive"))?,
                Act::PassAndClose => {
                    return to.write_all(&plain(&self.pass(&asked)?, "keep-alive"));
                }
                Act::Change(change) => return to.write_all(&change(&self.pass(&asked)?)),
                Act::Say(bytes) => return to.write_all(&bytes),
                Act::Dribble(bytes) => {
                    for byte in bytes {
                        to.write_all(&[byte])?;
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
                Act::Reset(bytes) => {
                    to.write_all(&bytes)?;
                    return socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
                }
                Act::Hang => {
                    self.hanging.fetch_add(1, Ordering::Relaxed);
                    let _ = from.read(&mut [0]);
                    self.hanging.fetch_sub(1, Ordering::Relaxed);
                    self.left.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn pass(&self, asked: &Asked) -> std::io::Result<client::Reply> {
        client::request(self.consul, PATIENCE, &asked.method, &asked.target, &asked.body)
    }
}

fn read(from: &mut impl std::io::BufRead) -> std::io::Result<Option<Asked>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        from.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    headers.sort();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap_or(0))];
    from.read_exact(&mut body)?;
    Ok(Some(Asked { method, target, headers, body }))
}

/// Returns the head of a response with these parts: the headers that hax reads, and `says` as the value of
/// Connection.
fn head(reply: &client::Reply, says: &str) -> String {
    let mut head = format!("HTTP/1.1 {} As said\r\nConnection: {says}\r\n", reply.status);
    if let Some(index) = reply.header("X-Consul-Index") {
        head.push_str(&format!("X-Consul-Index: {index}\r\n"));
    }
    head
}

/// Returns a response with a length.
fn plain(reply: &client::Reply, says: &str) -> Vec<u8> {
    let head = head(reply, says);
    let head = format!("{head}Content-Length: {}\r\n\r\n", reply.body.len());
    [head.as_bytes(), &reply.body].concat()
}

/// Returns the same response in chunks of 1,000 bytes and with trailers.
pub(crate) fn chunked(reply: &client::Reply) -> Vec<u8> {
    let mut bytes =
        format!("{}Transfer-Encoding: chunked\r\n\r\n", head(reply, "close")).into_bytes();
    for chunk in reply.body.chunks(1000) {
        bytes.extend(format!("{:X};x=y\r\n", chunk.len()).bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\nX-Trailer: x\r\n\r\n");
    bytes
}

/// Returns the same response without a length: it ends with the connection.
pub(crate) fn unmeasured(reply: &client::Reply) -> Vec<u8> {
    [format!("{}\r\n", head(reply, "close")).as_bytes(), &reply.body].concat()
}

/// Returns the same response after an interim response.
pub(crate) fn after_another(reply: &client::Reply) -> Vec<u8> {
    [b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n", &*plain(reply, "close")].concat()
}

/// Returns the same response with a head of many lines.
pub(crate) fn with_many_headers(reply: &client::Reply) -> Vec<u8> {
    let many: String = (0..80).map(|n| format!("X-{n}: y\r\n")).collect();
    let head =
        format!("{}{many}Content-Length: {}\r\n\r\n", head(reply, "close"), reply.body.len());
    [head.as_bytes(), &reply.body].concat()
}
