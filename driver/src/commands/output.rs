//! Standard output: a failed write is reported as an error, and never panics.

use std::io::{self, Stdout, Write};

/// Standard output that is flushed at each write, so that no error is left for the end.
pub(super) struct Output(Stdout);

impl Output {
    pub(super) fn new() -> Self {
        Self(io::stdout())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut out = self.0.lock();
        let written = out.write_all(bytes).and_then(|()| out.flush());
        written.map_err(|why| io::Error::new(why.kind(), format!("standard output: {why}")))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
