//! The network between a hax and its Consul agent: it forwards bytes, with or without a delay, or none.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A TCP proxy. Its threads end with the test's program.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    cut: bool,
    delay: Duration,
    open: Vec<TcpStream>,
    /// The targets of the requests over it.
    asked: Vec<String>,
}

impl Proxy {
    pub(crate) fn to(there: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(there) else { continue };
                let mut state = lock(&shared);
                if state.cut {
                    continue;
                }
                state.open.extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let shared = Arc::clone(&shared);
                    std::thread::spawn(move || carry(from, to, &shared));
                }
            }
        });
        Self { address, state }
    }

    /// Cuts the network: open connections break and no bytes pass.
    pub(crate) fn cut(&self) {
        let mut state = lock(&self.state);
        state.cut = true;
        state.open.drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }

    pub(crate) fn heal(&self) {
        lock(&self.state).cut = false;
    }

    /// Returns the targets of all requests so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        lock(&self.state).asked.clone()
    }

    /// Sets the additional delay of each piece of bytes.
    pub(crate) fn delay(&self, delay: Duration) {
        lock(&self.state).delay = delay;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::disallowed_methods, reason = "a slow connection is slow in real time")]
fn carry(mut from: TcpStream, mut to: TcpStream, state: &Mutex<State>) {
    let mut bytes = vec![0; 65_536];
    while let Ok(n @ 1..) = from.read(&mut bytes) {
        let delay = {
            let mut state = lock(state);
            state.asked.extend(target(&bytes[..n]));
            state.delay
        };
        std::thread::sleep(delay);
        if to.write_all(&bytes[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// Returns the target of a request that begins here.
fn target(bytes: &[u8]) -> Option<String> {
    let line = bytes.strip_prefix(b"GET ")?.split(|byte| *byte == b' ').next()?;
    Some(String::from_utf8_lossy(line).into_owned())
}
