//! The test's side of the script.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use crate::tokens::{Fid, Said, Sent, Tokens, fid};

/// The timeout of an answer. The library's own timeouts are half of this.
const LIMIT: Duration = Duration::from_secs(60);

/// Returns the path of the library, which is built beside the tests of the packages that depend on this one.
///
/// # Panics
///
/// If the file does not exist.
#[must_use]
pub fn library() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its file");
    let file = test.with_file_name("libmotr_fake.so");
    assert!(file.is_file(), "there is no {}", file.display());
    file
}

/// The socket at which libraries begin their scripts, one after another.
#[derive(Debug)]
pub struct Stage {
    socket: PathBuf,
    scripts: Receiver<UnixStream>,
}

impl Stage {
    /// Creates a stage with a socket of its own.
    ///
    /// # Errors
    ///
    /// If the socket cannot be created.
    pub fn new() -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        // The system limits the length of a socket's path, so a directory of the build cannot be used.
        let socket = std::env::temp_dir().join(format!("motr-fake-{}-{n}", std::process::id()));
        // A killed test with the same process id may have left this file behind.
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket)?;
        let (tell, scripts) = mpsc::channel();
        thread::spawn(move || {
            let scripts = listener.incoming().map_while(Result::ok);
            scripts.map_while(|script| tell.send(script).ok()).for_each(drop);
        });
        Ok(Self { socket, scripts })
    }

    /// Returns the value for [`crate::SOCKET`].
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Waits for the next program that uses the library, and returns its script; the program goes on then.
    ///
    /// # Panics
    ///
    /// If there is none within a minute.
    #[must_use]
    pub fn script(&self) -> Script {
        self.begin(0)
    }

    /// Waits for the next program, and fails its start with this errno.
    ///
    /// # Panics
    ///
    /// If there is none within a minute.
    pub fn refuse(&self, errno: i32) {
        self.begin(errno);
    }

    fn begin(&self, errno: i32) -> Script {
        let socket = self.scripts.recv_timeout(LIMIT).expect("a program uses the library");
        socket.set_read_timeout(Some(LIMIT)).expect("a limit");
        let lines = BufReader::new(socket.try_clone().expect("a second handle"));
        let mut script = Script { socket, lines };
        script.ask_for(&format!("begin {errno}"));
        script
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// The reply to an entrypoint request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 0, or a negative errno.
    pub rc: i32,
    /// The number of confds that must agree.
    pub quorum: u32,
    /// The resource manager's service.
    pub rm: Fid,
    /// The resource manager's endpoint.
    pub rm_endpoint: String,
    /// The confds: fid and endpoint.
    pub confds: Vec<(Fid, String)>,
}

/// The script of one library: its peers, and the observed calls of its user. Every wait fails the test after
/// a minute, and when the program ends.
#[derive(Debug)]
pub struct Script {
    socket: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Script {
    fn ask_for(&mut self, line: &str) -> String {
        writeln!(self.socket, "{line}").expect("the library is there");
        let mut answer = String::new();
        let n = self.lines.read_line(&mut answer);
        assert!(n.is_ok_and(|n| n > 0), "no answer of the library to: {line}");
        answer.trim_end().into()
    }

    fn number(&mut self, line: &str) -> u64 {
        self.ask_for(line).parse().expect("a number")
    }

    /// Waits for the start; returns our process, its HA service, its resource manager, and our endpoint.
    pub fn started(&mut self) -> ([Fid; 3], String) {
        let line = self.ask_for("started");
        let mut tokens = Tokens::of(&line);
        let mut next = || tokens.fid().expect("a fid");
        let fids = [next(), next(), next()];
        (fids, tokens.token().expect("an endpoint").into())
    }

    /// Sets whether sent messages are delivered at once.
    pub fn prompt(&mut self, prompt: bool) {
        self.ask_for(&format!("prompt {prompt}"));
    }

    /// Sends an entrypoint request of life `pid` of a process; returns the request's number.
    pub fn ask(&mut self, process: Fid, pid: u64, first: bool) -> u64 {
        self.number(&format!("ask {} {pid} {first}", fid(process)))
    }

    /// Waits for the reply to a request.
    pub fn reply(&mut self, request: u64) -> Reply {
        let line = self.ask_for(&format!("reply {request}"));
        let tokens = &mut Tokens::of(&line);
        let (rc, quorum) = (tokens.next().expect("rc"), tokens.next().expect("quorum"));
        let rm = tokens.fid().expect("a fid");
        let mut reply = Reply { rc, quorum, rm, rm_endpoint: String::new(), confds: vec![] };
        reply.rm_endpoint = tokens.token().expect("an endpoint").into();
        while let Some(confd) = tokens.fid() {
            reply.confds.push((confd, tokens.token().expect("an endpoint").into()));
        }
        reply
    }

    /// Waits for the newest link of this life of a process; returns the link's number.
    pub fn link(&mut self, process: Fid, pid: u64) -> u64 {
        self.number(&format!("link {} {pid}", fid(process)))
    }

    /// Sends a message from the process at the other end of a link; returns the message's tag.
    pub fn say(&mut self, link: u64, said: &Said) -> u64 {
        self.number(&format!("say {link} {}", said.to_words()))
    }

    /// Returns whether a message is not acknowledged.
    pub fn is_held(&mut self, link: u64, tag: u64) -> bool {
        self.ask_for(&format!("held {link} {tag}")) == "true"
    }

    /// Waits until a message is acknowledged, or its link no longer exists.
    pub fn acknowledged(&mut self, link: u64, tag: u64) {
        self.ask_for(&format!("acknowledged {link} {tag}"));
    }

    /// Waits for the next message that is sent over a link.
    pub fn sent(&mut self, link: u64) -> Sent {
        let line = self.ask_for(&format!("sent {link}"));
        Sent::of(&mut Tokens::of(&line)).expect("what was sent")
    }

    /// Settles the oldest unsettled message: it is delivered or not.
    pub fn settle(&mut self, link: u64, delivered: bool) {
        self.ask_for(&format!("settle {link} {delivered}"));
    }

    /// Waits until a link has been disconnected.
    pub fn disconnected(&mut self, link: u64) {
        self.ask_for(&format!("disconnected {link}"));
    }
}
