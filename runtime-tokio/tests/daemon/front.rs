//! A server before Consul that lets everything pass until it is told otherwise.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hax_sim::real::client::{self, Reply};

/// Longer than Consul holds a blocking query.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a front does with a request.
#[derive(Clone)]
pub(crate) enum Mode {
    /// Consul answers.
    Pass,
    /// These bytes are the answer; Consul hears nothing of it.
    Say(Vec<u8>),
    /// Consul acts, and its answer to a target is made into these bytes.
    Change(Arc<Lie>),
}

/// What is made of Consul's answer to a target.
pub(crate) type Lie = dyn Fn(&str, Reply) -> Vec<u8> + Send + Sync;

/// The server. Its threads end with the test's program.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    mode: Arc<Mutex<Mode>>,
}

impl Front {
    pub(crate) fn new(consul: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(Mutex::new(Mode::Pass));
        let current = Arc::clone(&mode);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mode = Arc::clone(&current);
                // A client that breaks off is no concern of the others.
                std::thread::spawn(move || drop(serve(stream, consul, &mode)));
            }
        });
        Self { address, mode }
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }
}

/// The bytes of a response that says `body`.
pub(crate) fn response(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status} As said\r\nConnection: close\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend(body);
    bytes
}

fn serve(mut stream: TcpStream, consul: SocketAddr, mode: &Mutex<Mode>) -> std::io::Result<()> {
    let current = || mode.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut from = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    from.read_line(&mut line)?;
    let (mut words, mut length) = (line.split(' '), 0);
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    loop {
        let mut header = String::new();
        from.read_line(&mut header)?;
        if header.trim_end().is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    if let Mode::Say(bytes) = current() {
        return stream.write_all(&bytes);
    }
    let reply = client::request(consul, PATIENCE, method, target, &body)?;
    let bytes = match current() {
        Mode::Change(change) => change(target, reply),
        Mode::Pass | Mode::Say(_) => honest(&reply),
    };
    stream.write_all(&bytes)
}

/// A response as it came from Consul, as far as hax looks at it.
pub(crate) fn honest(reply: &Reply) -> Vec<u8> {
    let index = reply.header("X-Consul-Index").map(|index| ("X-Consul-Index", index));
    response(reply.status, index.as_slice(), &reply.body)
}
