//! A proxy before Consul that forwards everything by default.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hax_sim::real::client::{self, Reply};

/// A time longer than Consul holds a blocking query.
const PATIENCE: Duration = Duration::from_secs(90);

/// The treatment of a request.
#[derive(Clone)]
pub(crate) enum Mode {
    /// Consul's response is returned.
    Pass,
    /// These bytes are returned, and Consul does not get the request.
    Say(Vec<u8>),
    /// Consul executes the request, and its response is changed to these bytes.
    Change(Arc<Lie>),
}

/// Changes Consul's response to a target.
pub(crate) type Lie = dyn Fn(&str, Reply) -> Vec<u8> + Send + Sync;

/// The proxy. Its threads end with the test's program.
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
                // The end of one client does not affect the others.
                std::thread::spawn(move || drop(serve(stream, consul, &mode)));
            }
        });
        Self { address, mode }
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }
}

/// Returns the bytes of a response with `body`.
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

/// Returns Consul's response unchanged, as far as hax uses it.
pub(crate) fn honest(reply: &Reply) -> Vec<u8> {
    let index = reply.header("X-Consul-Index").map(|index| ("X-Consul-Index", index));
    response(reply.status, index.as_slice(), &reply.body)
}
