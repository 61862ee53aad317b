//! Reads the broadcast queue as an old daemon does.
//!
//! A watch posts the whole queue at each change. Entries after the last read number are new.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Messages by number, in order of their reading.
type Heard = Vec<(u64, Value)>;

/// The reader. Its threads end with the test's program.
pub(crate) struct OldDaemon {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
}

impl OldDaemon {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Heard::new()));
        let shared = Arc::clone(&heard);
        std::thread::spawn(move || {
            // Posts are handled one after another, as a watch sends them.
            for stream in listener.incoming().map_while(Result::ok) {
                let _broken_off = serve(stream, &shared);
            }
        });
        Self { address, heard }
    }

    pub(crate) fn heard(&self) -> Heard {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(mut stream: TcpStream, heard: &Mutex<Heard>) -> std::io::Result<()> {
    let mut from = BufReader::new(stream.try_clone()?);
    let mut length = 0;
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
    // The HTTP server of an old daemon refuses a larger body.
    assert!(length < 1 << 20, "the queue is purged in time");
    let entries: Option<Vec<Value>> = serde_json::from_slice(&body).unwrap();
    let mut entries: Vec<(u64, Value)> =
        entries.unwrap_or_default().iter().filter_map(message).collect();
    entries.sort_by_key(|(n, _)| *n);
    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    let last = heard.last().map_or(0, |(n, _)| *n);
    heard.extend(entries.into_iter().filter(|(n, _)| *n > last));
    stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
}

fn message(entry: &Value) -> Option<(u64, Value)> {
    let n = entry["Key"].as_str()?.strip_prefix("bq/")?.parse().ok()?;
    let value = STANDARD.decode(entry["Value"].as_str()?).ok()?;
    Some((n, serde_json::from_slice(&value).ok()?))
}
