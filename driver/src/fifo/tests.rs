//! Tests with pipes in a real folder: correct clients, faulty clients, and servers that end.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use futures_lite::future::block_on;
use hax_core::fifo::{REQUESTS, Token, frame};
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};

use super::*;

const LONG: Duration = Duration::from_secs(30);

/// A temporary folder of one test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let place = std::env::temp_dir().join(format!("hax-fifo-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        Self(place)
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Creates the pipes of a client, as a client does.
    fn pipes(&self, token: &Token) {
        for name in [token.request_pipe(), token.answer_pipe()] {
            mkfifoat(CWD, self.0.join(name), Mode::RUSR | Mode::WUSR).unwrap();
        }
    }

    /// Writes to the server's pipe and waits while the pipe is full.
    fn announce(&self, bytes: &[u8]) {
        let pipe = OpenOptions::new().write(true).open(self.0.join(REQUESTS));
        pipe.unwrap().write_all(bytes).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Starts an echo server, which runs until a request tells it to stop.
fn echo(place: &Place) -> JoinHandle<()> {
    let folder = Folder::serve(&place.0).unwrap();
    thread::spawn(move || {
        let (inbox, requests) = async_channel::bounded(4);
        let fifo = Fifo::start(folder, inbox, |request| request).unwrap();
        while let Ok(Request { id, body }) = requests.recv_blocking() {
            let stops = &body[..] == b"stop";
            fifo.respond(Response { id, body });
            if stops {
                return block_on(fifo.shut_down(LONG));
            }
        }
    })
}

fn stop(place: &Place, server: JoinHandle<()>) {
    assert_eq!(ask(&place.0, b"stop", LONG).unwrap(), b"stop");
    server.join().unwrap();
    assert_eq!(place.names(), [""; 0], "nothing is left behind");
}

#[test]
fn r04_requests_of_every_length_are_answered() {
    let place = Place::new("lengths");
    let server = echo(&place);
    for length in [0, 1, 4_095, 4_096, 65_532, 65_536, 100_000, 1 << 20] {
        let body: Vec<u8> = (0..length).map(|n: usize| n.to_le_bytes()[0]).collect();
        assert!(ask(&place.0, &body, LONG).unwrap() == body, "{length} bytes");
    }
    assert!(matches!(ask(&place.0, &vec![0; (4 << 20) + 1], LONG), Err(AskError::TooLong)));
    stop(&place, server);
}

#[test]
fn r04_a_hundred_clients_are_answered_beside_garbage_and_a_hundred_that_die() {
    let place = Place::new("hundred");
    let server = echo(&place);
    thread::scope(|scope| {
        for client in 0..100 {
            let place = &place;
            scope.spawn(move || {
                for nth in 0..10 {
                    let body = format!("client {client}, request {nth}").into_bytes();
                    assert_eq!(ask(&place.0, &body, LONG).unwrap(), body);
                }
            });
            scope.spawn(move || {
                // One client dies at each byte of its request, or before its announcement is complete.
                let token = Token::new(&format!("dead-{client}")).unwrap();
                place.pipes(&token);
                let open = |name: String| {
                    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
                    let mut options = OpenOptions::new();
                    options.read(true).write(true).custom_flags(flags).open(place.0.join(name))
                };
                let mut request = open(token.request_pipe()).unwrap();
                let answer = open(token.answer_pipe()).unwrap();
                let bytes = frame(b"a request that is cut off somewhere");
                request.write_all(&bytes[..client % bytes.len()]).unwrap();
                let announcement = token.announcement();
                let cut =
                    if client % 3 == 0 { client % announcement.len() } else { announcement.len() };
                place.announce(&announcement.as_bytes()[..cut]);
                place.announce(&vec![u8::try_from(client).unwrap(); 3_000]);
                drop((request, answer));
            });
        }
    });
    assert_eq!(ask(&place.0, b"still there", LONG).unwrap(), b"still there");
    assert_eq!(ask(&place.0, b"stop", LONG).unwrap(), b"stop");
    server.join().unwrap();
}

#[test]
fn what_a_dead_client_left_is_swept() {
    let place = Place::new("swept");
    let folder = Folder::serve(&place.0).unwrap();
    place.pipes(&Token::new("dead").unwrap());
    fs::write(place.0.join("x.answer"), "a file").unwrap();
    folder.sweep(LONG);
    assert_eq!(place.names().len(), 4, "it may be about to announce itself");
    folder.sweep(Duration::ZERO);
    let mut names = place.names();
    names.sort();
    assert_eq!(names, [REQUESTS, "x.answer"]);
}

#[test]
fn without_a_server_nobody_waits() {
    let place = Place::new("nobody");
    let nobody = |place: &Place| matches!(ask(&place.0, b"", LONG), Err(AskError::NobodyServes(_)));
    assert!(nobody(&place), "no folder");
    fs::create_dir(&place.0).unwrap();
    assert!(nobody(&place), "no pipe");
    mkfifoat(CWD, place.0.join(REQUESTS), Mode::RUSR | Mode::WUSR).unwrap();
    assert!(nobody(&place), "a pipe that a killed server left");
    fs::remove_file(place.0.join(REQUESTS)).unwrap();
    fs::write(place.0.join(REQUESTS), "").unwrap();
    assert!(nobody(&place), "a file");
    assert_eq!(fs::read(place.0.join(REQUESTS)).unwrap(), b"", "nothing is written to it");
}

#[test]
fn a_folder_has_one_server() {
    let place = Place::new("one");
    let first = Folder::serve(&place.0).unwrap();
    assert!(matches!(Folder::serve(&place.0), Err(FolderError::Served(_))));
    drop(first);
    // The pipe that the server left does not hinder the next server.
    drop(Folder::serve(&place.0).unwrap());
}

#[test]
fn a_folder_that_others_could_use_is_refused() {
    let place = Place::new("refused");
    fs::create_dir(&place.0).unwrap();
    fs::set_permissions(&place.0, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(Folder::serve(&place.0), Err(FolderError::Writable(_))));
    fs::set_permissions(&place.0, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(place.0.join(REQUESTS), "").unwrap();
    assert!(matches!(Folder::serve(&place.0), Err(FolderError::NoPipe(_))));
    let file = Path::new("/proc/self/status");
    assert!(matches!(Folder::serve(file), Err(FolderError::System(..))));
}

#[test]
fn what_is_no_pipe_of_a_client_is_not_opened() {
    let place = Place::new("links");
    let server = echo(&place);
    let victim = place.0.join("victim");
    fs::write(&victim, "as it was").unwrap();
    let (link, file) = (Token::new("link").unwrap(), Token::new("file").unwrap());
    for name in [link.request_pipe(), link.answer_pipe()] {
        symlink(&victim, place.0.join(name)).unwrap();
    }
    for name in [file.request_pipe(), file.answer_pipe()] {
        fs::hard_link(&victim, place.0.join(name)).unwrap();
    }
    place.announce(link.announcement().as_bytes());
    place.announce(file.announcement().as_bytes());
    assert_eq!(ask(&place.0, b"stop", LONG).unwrap(), b"stop");
    server.join().unwrap();
    assert_eq!(fs::read(victim).unwrap(), b"as it was");
}

#[test]
fn a_server_that_ends_before_it_answers_is_noticed() {
    let place = Place::new("ends");
    let folder = Folder::serve(&place.0).unwrap();
    let (inbox, requests) = async_channel::bounded(1);
    let fifo = Fifo::start(folder, inbox, |request| request).unwrap();
    let path = place.0.clone();
    let client = thread::spawn(move || ask(&path, b"request", LONG));
    let request = requests.recv_blocking().unwrap();
    assert_eq!(&request.body[..], b"request");
    block_on(fifo.shut_down(Duration::ZERO));
    assert!(matches!(client.join().unwrap(), Err(AskError::Ended)));
}
