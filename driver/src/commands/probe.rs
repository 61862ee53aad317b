//! `hax probe`: one probe of a service. The node's part of the services runs it as a helper program, so a probe
//! that hangs is killed at its time limit and holds up nothing.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use http::Uri;

use crate::exit::{CommandError, Exit};

/// The time limit of each connection, read and write. The time limit of the whole probe is the caller's.
const WITHIN: Duration = Duration::from_secs(60);

/// The maximum length of a status line, in bytes.
const LINE_MAX: usize = 4096;

/// `hax probe`.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// What is probed.
    #[command(subcommand)]
    pub what: What,
}

/// What is probed.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Whether a TCP connection to this address succeeds.
    Tcp {
        /// The address.
        #[arg(value_name = "HOST:PORT")]
        address: String,
    },
    /// Whether a GET request of this URL is answered with a status below 400. Redirections are not followed.
    Http {
        /// The URL, http:// only.
        #[arg(value_name = "URL")]
        url: Uri,
    },
    /// Whether this file exists.
    File {
        /// The file.
        #[arg(value_name = "PATH")]
        path: PathBuf,
    },
}

pub(super) fn run(args: &ProbeArgs) -> Result<Exit, CommandError> {
    match &args.what {
        What::Tcp { address } => drop(connect(address)?),
        What::Http { url } => http(url)?,
        What::File { path } => {
            std::fs::metadata(path).with_context(|| path.display().to_string())?;
        }
    }
    Ok(Exit::Clean)
}

/// Connects to the first address of a host that accepts.
fn connect(address: &str) -> anyhow::Result<TcpStream> {
    let all = address.to_socket_addrs().with_context(|| address.to_owned())?;
    let mut last = None;
    for one in all {
        match TcpStream::connect_timeout(&one, WITHIN) {
            Ok(stream) => return Ok(stream),
            Err(why) => last = Some(anyhow::Error::new(why).context(one.to_string())),
        }
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("{address} has no address")))
}

fn http(url: &Uri) -> anyhow::Result<()> {
    if url.scheme_str() != Some("http") {
        bail!("an http:// URL is expected");
    }
    let authority = url.authority().context("the URL names no host")?;
    let host = authority.host();
    let port = authority.port_u16().unwrap_or(80);
    let mut stream = connect(&format!("{host}:{port}"))?;
    stream.set_read_timeout(Some(WITHIN)).context("a time limit")?;
    stream.set_write_timeout(Some(WITHIN)).context("a time limit")?;
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    // Without the user and the password that a URL may contain.
    let at = authority.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {at}\r\nUser-Agent: hax\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).with_context(|| at.clone())?;
    let line = first_line(&mut stream).with_context(|| at.clone())?;
    match status(&line) {
        Some(status) if status < 400 => Ok(()),
        Some(status) => bail!("http://{at}{target} is answered with {status}"),
        None => bail!("{at} answers with something that is not HTTP"),
    }
}

/// Reads up to the end of the first line.
fn first_line(stream: &mut TcpStream) -> anyhow::Result<Vec<u8>> {
    let (mut line, mut piece) = (Vec::new(), [0; 512]);
    loop {
        let n = stream.read(&mut piece)?;
        line.extend_from_slice(&piece[..n]);
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(end);
            return Ok(line);
        }
        if n == 0 || line.len() > LINE_MAX {
            bail!("the answer has no status line");
        }
    }
}

/// Returns the status of a status line: `HTTP/1.1 200 OK`.
fn status(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.strip_prefix("HTTP/1.")?.split_whitespace();
    let code = words.nth(1)?;
    code.parse().ok().filter(|code| (100..600).contains(code))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Serves one answer to one client, and returns the address.
    fn serve(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let n = stream.read(&mut request).unwrap();
            assert!(request[..n].starts_with(b"GET /live?x=1 HTTP/1.1\r\n"));
            stream.write_all(answer).unwrap();
        });
        address
    }

    fn probe(what: What) -> Result<(), String> {
        let done = run(&ProbeArgs { what });
        done.map(drop).map_err(|CommandError(exit, why)| {
            assert_eq!(exit, Exit::Failure);
            format!("{why:#}")
        })
    }

    #[test]
    fn an_answer_below_400_is_well() {
        let answers: [(&[u8], Option<&str>); 6] = [
            (b"HTTP/1.1 200 OK\r\n\r\n", None),
            (b"HTTP/1.0 302 Found\r\n\r\n", None),
            (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", Some("503")),
            (b"SSH-2.0-OpenSSH\r\n", Some("not HTTP")),
            (b"", Some("no status line")),
            (&[b'x'; 2 * LINE_MAX], Some("no status line")),
        ];
        for (answer, why) in answers {
            let url = format!("http://user:secret@{}/live?x=1", serve(answer));
            let said = probe(What::Http { url: url.parse().unwrap() });
            match (said, why) {
                (Ok(()), None) => {}
                (Err(said), Some(why)) => {
                    assert!(said.contains(why) && !said.contains("secret"), "{said}");
                }
                (said, why) => panic!("{said:?}, and {why:?} is expected"),
            }
        }
    }

    #[test]
    fn a_port_and_a_file_are_there_or_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_eq!(probe(What::Tcp { address: address.clone() }), Ok(()));
        drop(listener);
        let why = probe(What::Tcp { address: address.clone() }).unwrap_err();
        assert!(why.contains(&address), "{why}");
        assert!(probe(What::Tcp { address: "nowhere".into() }).is_err());
        assert_eq!(probe(What::File { path: "/".into() }), Ok(()));
        let why = probe(What::File { path: "/nowhere".into() }).unwrap_err();
        assert!(why.contains("/nowhere"), "{why}");
    }
}
