//! What strangers do.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hax_core::wire::frame::{End, HEADER, Header, PAYLOAD_MAX};
use socket2::{Domain, Socket, Type};

use crate::daemon::{Place, until};
use crate::place::strangers;

/// How often silent connections are made; each time so many that their rate comes out.
const BEAT: Duration = Duration::from_millis(20);
/// How long a silent connection is held: ten seconds.
const HELD_BEATS: usize = 500;

/// All attacks on one daemon; they end with this.
pub(crate) struct Siege {
    strangers: Vec<IpAddr>,
    motr: SocketAddr,
    over: Arc<AtomicBool>,
    /// Attacks that have not reached their strength.
    weak: Arc<AtomicUsize>,
    threads: std::cell::RefCell<Vec<JoinHandle<()>>>,
}

impl Drop for Siege {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.take() {
            let _ = thread.join();
        }
    }
}

impl Siege {
    pub(crate) fn begin(place: &Place) -> Self {
        let (over, weak, threads) = Default::default();
        Self { strangers: strangers(), motr: place.motr(), over, weak, threads }
    }

    /// All attacks have reached their strength.
    pub(crate) fn is_laid(&self) {
        until("the siege is laid", || self.weak.load(Ordering::Relaxed) == 0);
    }

    /// So many frames that lack their last byte; when they are there, again and again new ones.
    pub(crate) fn half_frames(&self, n: usize) {
        let (from, to) = (self.strangers[0], self.motr);
        let half = half_frame(from, to);
        self.attack(move |attack| {
            let mut held = VecDeque::new();
            while attack.goes_on() {
                if let Some(mut stream) = connect(from, to) {
                    let _ = stream.write_all(&half);
                    held.push_back(stream);
                }
                if held.len() >= n {
                    attack.is_strong();
                    held.pop_front();
                    thread::sleep(BEAT);
                }
            }
        });
    }

    /// So many connections a second on which nothing is said, each held for a while.
    pub(crate) fn silence(&self, a_second: usize) {
        let (from, to) = (self.strangers[self.strangers.len() - 1], self.motr);
        self.attack(move |attack| {
            let n = a_second * usize::try_from(BEAT.as_millis()).unwrap() / 1000;
            let mut held = VecDeque::new();
            while attack.goes_on() {
                held.push_back((0..n).filter_map(|_| connect(from, to)).collect::<Vec<_>>());
                if held.len() >= HELD_BEATS {
                    attack.is_strong();
                    held.pop_front();
                }
                thread::sleep(BEAT);
            }
        });
    }

    fn attack(&self, attack: impl FnOnce(Attack) + Send + 'static) {
        self.weak.fetch_add(1, Ordering::Relaxed);
        let (over, weak) = (Arc::clone(&self.over), Arc::clone(&self.weak));
        let handle = Attack { over, weak, strong: false.into() };
        self.threads.borrow_mut().push(thread::spawn(|| attack(handle)));
    }
}

/// One attack's part of the siege.
struct Attack {
    over: Arc<AtomicBool>,
    weak: Arc<AtomicUsize>,
    strong: std::cell::Cell<bool>,
}

impl Attack {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    fn is_strong(&self) {
        if !self.strong.replace(true) {
            self.weak.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A connection from a stranger's address; none if it is refused.
fn connect(from: IpAddr, to: SocketAddr) -> Option<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).ok()?;
    socket.bind(&SocketAddr::new(from, 0).into()).ok()?;
    socket.connect_timeout(&to.into(), Duration::from_millis(500)).ok()?;
    let stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(Duration::from_millis(500))).ok()?;
    Some(stream)
}

/// As much of the largest frame as there can be of it.
fn half_frame(from: IpAddr, to: SocketAddr) -> Vec<u8> {
    let src = End { addr: SocketAddr::new(from, 22_001), cookie: (1, 1) };
    let dst = End { addr: to, cookie: (0, 0) };
    let size = u32::try_from(PAYLOAD_MAX).unwrap();
    let mut bytes = Vec::new();
    Header { src, dst, size }.encode(&mut bytes);
    bytes.resize(HEADER + PAYLOAD_MAX - 1, 0);
    bytes
}
