//! What the fuzzers do with bytes, as plain functions: `fuzz/` hands them what libFuzzer invents, a test
//! hands them what was found worth keeping (`fuzz/corpus`). Whatever the bytes are, nothing may panic,
//! nothing may be emitted that a peer could not bear, and what is read is written back the same.

mod bridge;
mod wire;

pub use bridge::{consul, http};
pub use wire::{codec, hax, process};

use std::net::SocketAddr;

use hax_core::base::time::{Instant, Now, Wall};

/// The addresses of the two ends.
fn ends() -> (SocketAddr, SocketAddr) {
    (SocketAddr::from(([10, 0, 0, 1], 22_001)), SocketAddr::from(([10, 0, 0, 2], 22_002)))
}

/// Bytes that are read from the front; 0 when there are no more.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn u16(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// The next bytes, as many as are left of so many.
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

/// A clock that goes on as it is told.
#[derive(Default)]
struct Clock(u64);

impl Clock {
    fn now(&self) -> Now {
        Now { mono: Instant::from_micros(self.0), wall: Wall(1_795_243_244_000_000_000 + self.0) }
    }

    fn pass(&mut self, us: u64) {
        self.0 += us;
    }
}
