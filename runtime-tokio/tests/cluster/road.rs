//! What lies between a hax and its Consul agent: bytes pass, late or not at all.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A proxy for TCP. Its threads end with the test's program.
pub(crate) struct Road {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    cut: bool,
    delay: Duration,
    open: Vec<TcpStream>,
    /// What was asked for over it.
    asked: Vec<String>,
}

impl Road {
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

    /// Nothing passes; what was open breaks.
    pub(crate) fn cut(&self) {
        let mut state = lock(&self.state);
        state.cut = true;
        state.open.drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }

    pub(crate) fn heal(&self) {
        lock(&self.state).cut = false;
    }

    /// The targets of all requests so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        lock(&self.state).asked.clone()
    }

    /// Each piece of bytes takes so much longer.
    pub(crate) fn delay(&self, delay: Duration) {
        lock(&self.state).delay = delay;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::disallowed_methods, reason = "a slow road is slow in real time")]
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

/// What a request that begins here asks for.
fn target(bytes: &[u8]) -> Option<String> {
    let line = bytes.strip_prefix(b"GET ")?.split(|byte| *byte == b' ').next()?;
    Some(String::from_utf8_lossy(line).into_owned())
}
