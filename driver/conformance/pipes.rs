//! Checks of each runtime's host for a machine with named pipes. The folder is real. Some clients wait for
//! their reply, and some do not.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use hax_core::base::time::Next;
use hax_core::fifo::{REQUESTS, Response};
use hax_core::machine::{Input, Output};
use hax_driver::fifo::{AskError, Folder, ask};

use super::{LIMIT, run_in};

/// The number of requests. One request is larger than the capacity of a pipe.
const CLIENTS: usize = 30;

/// A temporary folder of this test.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn place(name: &str) -> (Arc<Place>, Folder) {
    let path = std::env::temp_dir().join(format!("hax-pipes-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    let folder = Folder::serve(&path).unwrap();
    (Arc::new(Place(path)), folder)
}

/// Sends a request from a thread of its own.
fn client(place: &Arc<Place>, body: Vec<u8>) -> JoinHandle<Result<Vec<u8>, AskError>> {
    let place = Arc::clone(place);
    thread::spawn(move || ask(&place.0, &body, LIMIT))
}

#[test]
fn clients_over_named_pipes_are_answered_each_with_its_own() {
    let (place, folder) = place("answers");
    // These bytes are invalid announcements, and an announcement of a client that does not exist.
    let pipe = OpenOptions::new().write(true).open(place.0.join(REQUESTS));
    pipe.unwrap().write_all(b"garbage\xff\nH1 nobody\nH1 half").unwrap();
    let bodies: Vec<Vec<u8>> = (0..CLIENTS)
        .map(|n| format!("{n} ").repeat(if n == 0 { 50_000 } else { n }).into())
        .collect();
    let clients: Vec<_> = bodies.iter().map(|body| client(&place, body.clone())).collect();
    let mut waiting = Vec::new();
    run_in(Some(folder), |input, out| {
        if let Input::Fifo(request) = input {
            waiting.push(request);
        }
        if waiting.len() < CLIENTS {
            return Next::Wait;
        }
        // All replies are given at once and in reverse order. They are delivered although the machine exits
        // now.
        for request in waiting.drain(..).rev() {
            out.push(Output::Fifo(Response { id: request.id, body: request.body }));
        }
        Next::Exit
    });
    for (client, body) in clients.into_iter().zip(bodies) {
        assert!(client.join().unwrap().unwrap() == body, "{} bytes", body.len());
    }
    let left: Vec<_> = fs::read_dir(&place.0).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_client_without_an_answer_sees_the_machine_s_end() {
    let (place, folder) = place("end");
    let client = client(&place, b"hello".into());
    run_in(Some(folder), |input, _| match input {
        Input::Fifo(_) => Next::Exit,
        _ => Next::Wait,
    });
    assert!(matches!(client.join().unwrap(), Err(AskError::Ended)));
    let nobody = ask(&place.0, b"hello", LIMIT);
    assert!(matches!(nobody, Err(AskError::NobodyServes(_))), "{nobody:?}");
}
