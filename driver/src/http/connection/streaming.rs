//! A streaming response on its connection. The connection ends with the response.

use std::fmt::Write as _;
use std::io;
use std::time::{Duration, UNIX_EPOCH};

use futures_lite::future::or;
use http::StatusCode;
use httpdate::HttpDate;

use hax_core::http::stream::{Begin, Why};

use super::{Connection, NextStep};
use crate::host::clock;
use crate::http::head::Head;
use crate::http::streams::{Coding, Next, Open};
use crate::http::{HEAD_MAX, streams_full};

/// The next event of a streaming connection.
enum Event {
    Stream(Next),
    /// The client has gone, or sends more bytes than a request may have.
    ClientGone,
}

impl Connection {
    /// Sends a stream until it ends or the client goes away.
    ///
    /// A client that closes its side counts as gone: otherwise nothing would reveal that it is gone while the
    /// stream has little data. Bytes that it sends meanwhile are dropped.
    pub(super) async fn stream(&mut self, head: &Head, open: Open) -> io::Result<NextStep> {
        let coding = if head.is_1_0 { Coding::Plain } else { Coding::Chunked };
        let is_head = head.method == "HEAD";
        if !is_head && !self.slot.move_to_streams() {
            open.close(Why::TooMany);
            self.respond(Some(head), streams_full(), false).await?;
            return Ok(NextStep::Close);
        }
        let mut bytes = head_of(open.head(), coding);
        let mut said = 0;
        loop {
            let written = or(async { Some(self.write(&bytes).await) }, async {
                open.too_slow().await;
                None
            });
            match written.await {
                Some(Ok(())) => {}
                Some(Err(why)) if why.kind() != io::ErrorKind::TimedOut => return Err(why),
                Some(Err(_)) | None => return Err(slow(open)),
            }
            if is_head {
                return Ok(NextStep::Close);
            }
            let event = or(async { Event::Stream(open.next(coding).await) }, async {
                self.client_gone(&mut said).await;
                Event::ClientGone
            });
            match event.await {
                Event::Stream(Next::Write(next)) => bytes = next,
                Event::Stream(Next::End) => {
                    self.write(coding.end()).await?;
                    open.close(Why::Ended);
                    return Ok(NextStep::Close);
                }
                Event::Stream(Next::Slow) => return Err(slow(open)),
                Event::ClientGone => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
    }

    /// Waits until the client has gone; `said` is the number of bytes that it has sent before.
    async fn client_gone(&mut self, said: &mut usize) {
        while *said <= HEAD_MAX {
            match self.read_more().await {
                Ok(n) if n > 0 => *said += n,
                _ => return,
            }
            self.input.clear();
        }
    }
}

/// Disconnects a client that reads too slowly.
fn slow(open: Open) -> io::Error {
    open.close(Why::Slow);
    io::Error::new(io::ErrorKind::TimedOut, "its client reads too slowly")
}

/// Returns the head of a streaming response. No cache may store a live stream.
fn head_of(Begin { status, content_type, .. }: Begin, coding: Coding) -> Vec<u8> {
    let reason = StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason());
    let (version, transfer) = match coding {
        Coding::Chunked => ("1.1", "transfer-encoding: chunked\r\n"),
        Coding::Plain => ("1.0", ""),
    };
    let mut text = String::with_capacity(256);
    // Writing to a string does not fail, here and below.
    let _ = write!(text, "HTTP/{version} {status} {}\r\n", reason.unwrap_or("<none>"));
    if !content_type.is_empty() {
        let _ = write!(text, "content-type: {content_type}\r\n");
    }
    let now = HttpDate::from(UNIX_EPOCH + Duration::from_nanos(clock::wall().0));
    let _ = write!(
        text,
        "cache-control: no-store\r\nconnection: close\r\n{transfer}date: {now}\r\n\r\n"
    );
    text.into_bytes()
}
