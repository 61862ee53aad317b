//! A complete minimal host of a machine on blocking sockets, with one thread for each.
//!
//! It runs a node, sends it a health request over HTTP, and stops it. An argument sets the address of Consul:
//! `127.0.0.1:8500`.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use hax_core::base::{fid::Fid, id::HttpId, time};
use hax_core::consul::port::{Answer, Call, Command, Reply, Unanswered};
use hax_core::http::port::{Request, Trust};
use hax_core::machine::{ExitReason, Input, Machine, Output};
use hax_core::{bridge, node, wire};

struct Host {
    began: Instant,
    consul: String,
    inbox: mpsc::Sender<Input>,
    /// The connections of the HTTP requests without a response.
    asking: Mutex<Vec<(HttpId, TcpStream)>>,
}

impl Host {
    fn drive<M: Machine>(&self, machine: &mut M, inbox: &mpsc::Receiver<Input>) -> ExitReason {
        let (mut input, mut out) = (Input::Tick, Vec::new());
        loop {
            let us = |time: Duration| u64::try_from(time.as_micros()).expect("it fits");
            let mono = time::Instant::from_micros(us(self.began.elapsed()));
            let wall = SystemTime::UNIX_EPOCH.elapsed().expect("it is after 1970");
            let now = time::Now { mono, wall: time::WallClock(us(wall) * 1_000) };
            let next = machine.handle(now, input, &mut out);
            out.drain(..).for_each(|output| self.execute(output));
            input = match next {
                time::Next::Exit => return machine.exit(),
                time::Next::Wait => inbox.recv().expect("we hold a sender"),
                time::Next::WaitUntil { at, .. } => {
                    inbox.recv_timeout(at.since(mono)).unwrap_or(Input::Tick)
                }
            };
        }
    }

    /// Starts the execution of an output and returns at once.
    ///
    /// The other ports get no commands: there are no Motr processes here, no helper programs and no files.
    fn execute<F: std::fmt::Display>(&self, output: Output<F>) {
        if let Output::Consul(Command::Call(call)) = output {
            let (consul, inbox) = (self.consul.clone(), self.inbox.clone());
            thread::spawn(move || {
                let result = ask(&consul, &call).map_err(|_| Unanswered::Broken);
                inbox.send(Input::Consul(Reply { id: call.id, result }))
            });
        } else if let Output::Http(response) = output {
            let mut asking = self.asking.lock().expect("nobody panics");
            let nth = asking.iter().position(|(id, _)| *id == response.id).expect("it has asked");
            let (status, length) = (response.status, response.body.len());
            let head = format!("HTTP/1.0 {status} -\r\ncontent-length: {length}\r\n\r\n");
            let _ = asking.remove(nth).1.write_all(&[head.as_bytes(), &response.body].concat());
        } else if let Output::Fact(fact) = output {
            let _ = writeln!(io::stdout(), "{fact}");
        }
    }
}

/// Sends a request to Consul. In HTTP/1.0 the end of the connection ends the response.
fn ask(consul: &str, call: &Call) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(consul)?;
    stream.set_read_timeout(Some(call.within))?;
    let (method, length) = (format!("{:?}", call.method).to_uppercase(), call.body.len());
    let head = format!("{method} {} HTTP/1.0\r\ncontent-length: {length}\r\n\r\n", call.target);
    stream.write_all(&[head.as_bytes(), &call.body].concat())?;
    let mut text = String::new();
    stream.take(call.body_max as u64).read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let index = head.lines().find_map(|line| line.strip_prefix("X-Consul-Index: ")?.parse().ok());
    let (status, index) = (status.ok_or(io::ErrorKind::InvalidData)?, index.unwrap_or(0));
    Ok(Answer { status, index, body: body.to_owned().into() })
}

#[expect(clippy::disallowed_methods, reason = "a host has the clocks")]
fn main() -> io::Result<()> {
    let http = TcpListener::bind("127.0.0.1:0")?;
    let (client, (stream, _)) = (TcpStream::connect(http.local_addr()?)?, http.accept()?);
    let (inbox, receiver) = mpsc::channel();
    let consul = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1".into());
    let (id, asking) = (HttpId(1), Mutex::new(vec![(HttpId(1), stream)]));
    let host = Host { began: Instant::now(), consul, inbox: inbox.clone(), asking };
    let (method, target, body) = ("GET".into(), "/healthz".into(), bytes::Bytes::new());
    let request = Request { id, method, target, body, trust: Trust::Local };
    let fed = [Input::Http(Box::new(request)), Input::Stop].map(|input| inbox.send(input));
    assert!(fed.iter().all(Result::is_ok), "we hold the receiver");
    let bridge = bridge::config::Config::new(Fid::process(1), "localhost", 1);
    let wire = wire::Config::new("127.0.0.1:22001".parse().expect("an address"), 1, 1);
    let exit = host.drive(&mut node::Node::new(node::Config { bridge, wire }), &receiver);
    let answer = io::read_to_string(client)?;
    assert!(answer.starts_with("HTTP/1.0 200") && exit == ExitReason::Stopped, "{answer}");
    Ok(())
}
