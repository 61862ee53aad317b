//! The library's side of the script.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{OnceLock, mpsc};
use std::thread;

use motr_sys::fake::{FakeLibrary, Link, Request};
use motr_sys::{Ha, Spiel};

use crate::tokens::{Said, Sent, Tokens, fid};

/// The answer to a line without another answer.
const DONE: &str = "done";

/// The errno with which commands to the cluster are refused: there is no cluster.
const ENOSYS: i32 = 38;

static FUNCTIONS: OnceLock<Functions> = OnceLock::new();

/// All functions.
pub(crate) struct Functions {
    pub(crate) ha: Ha,
    pub(crate) spiel: Spiel,
}

/// Returns the functions of this program's one library. The first call creates it, and begins the script.
pub(crate) fn functions() -> &'static Functions {
    FUNCTIONS.get_or_init(|| {
        let (tell, made) = mpsc::channel();
        // The library stays on its thread for ever; its end is not checked.
        thread::spawn(move || {
            let library = FakeLibrary::new();
            library.abort();
            library.refuse_commands(ENOSYS);
            let begin = || {
                let _ = tell.send(Functions { ha: library.ha(), spiel: library.spiel() });
            };
            if catch_unwind(AssertUnwindSafe(|| Play::new(&library).run(begin))).is_err() {
                std::process::abort();
            }
            loop {
                thread::park();
            }
        });
        made.recv().expect("a thread with a library")
    })
}

/// The script's objects; their numbers count from 0.
struct Play<'a> {
    library: &'a FakeLibrary,
    requests: Vec<Request>,
    /// Each link with the life of its process.
    links: Vec<(Link, (u64, u64), u64)>,
}

impl<'a> Play<'a> {
    fn new(library: &'a FakeLibrary) -> Self {
        Self { library, requests: Vec::new(), links: Vec::new() }
    }

    /// Answers each line, the first one before the program goes on. If the script disconnects, the library
    /// stays as it is.
    fn run(mut self, begin: impl Fn()) {
        let path = std::env::var_os(crate::SOCKET).expect("MOTR_FAKE_SOCKET is set");
        let mut socket = UnixStream::connect(path).expect("the script's socket");
        let lines = BufReader::new(socket.try_clone().expect("a second handle")).lines();
        for line in lines.map_while(Result::ok) {
            let answer = self.answer(&mut Tokens::of(&line));
            let answer = answer.unwrap_or_else(|| panic!("the script is wrong: {line}"));
            let heard = writeln!(socket, "{answer}");
            begin();
            if heard.is_err() {
                break;
            }
        }
    }

    fn answer(&mut self, tokens: &mut Tokens<'_>) -> Option<String> {
        let library = self.library;
        Some(match tokens.token()? {
            "started" => {
                let started = library.started();
                let [process, ha, rm] =
                    [started.process, started.ha_service, started.rm_service].map(fid);
                format!("{process} {ha} {rm} {}", started.endpoint)
            }
            "begin" => {
                if let errno @ 1.. = tokens.next()? {
                    library.refuse_start(errno);
                }
                DONE.into()
            }
            "prompt" => {
                library.prompt(tokens.next()?);
                DONE.into()
            }
            "ask" => {
                self.requests.push(library.ask(tokens.fid()?, tokens.next()?, tokens.next()?));
                (self.requests.len() - 1).to_string()
            }
            "reply" => self.reply(tokens.next()?)?,
            "link" => {
                let (process, pid) = (tokens.fid()?, tokens.next()?);
                self.links.push((library.link(process, pid), process, pid));
                (self.links.len() - 1).to_string()
            }
            "say" => {
                let (link, process, pid) = *self.links.get(tokens.next::<usize>()?)?;
                let said = Said::of(tokens)?;
                library.say(link, |out| said.fill(process, pid, out))?.to_string()
            }
            "held" => library.is_held(self.link(tokens)?, tokens.next()?).to_string(),
            "acknowledged" => {
                library.acknowledged(self.link(tokens)?, tokens.next()?);
                DONE.into()
            }
            "sent" => Sent::read(&library.sent(self.link(tokens)?)).to_words(),
            "settle" => {
                library.settle(self.link(tokens)?, tokens.next()?);
                DONE.into()
            }
            "disconnected" => {
                library.disconnected(self.link(tokens)?);
                DONE.into()
            }
            _ => return None,
        })
    }

    fn link(&self, tokens: &mut Tokens<'_>) -> Option<Link> {
        self.links.get(tokens.next::<usize>()?).map(|(link, ..)| *link)
    }

    fn reply(&self, request: usize) -> Option<String> {
        let reply = self.library.reply(*self.requests.get(request)?);
        let rm = fid(reply.rm);
        let endpoint = reply.rm_endpoint.filter(|name| !name.is_empty());
        let endpoint = endpoint.unwrap_or_else(|| "-".into());
        let mut line = format!("{} {} {rm} {endpoint}", reply.rc, reply.quorum);
        for (confd, endpoint) in reply.confds {
            line += &format!(" {} {endpoint}", fid(confd));
        }
        Some(line)
    }
}
