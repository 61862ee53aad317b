//! Pings from a namespace: ICMP echo requests at a fixed interval, and which of them have no reply.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use hax_core::base::time::Instant;
use hax_driver::host::clock::Clock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto, recv, send,
    socket_with,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Lab, NAMESPACES, SERVER};

/// The length of an ICMP header, and that of a request: the header and the request's number.
const HEADER: usize = 8;
const REQUEST: usize = HEADER + 8;

/// The types of ICMP messages (RFC 792).
const ECHO: u8 = 8;
const ECHO_REPLY: u8 = 0;

/// The requests so far.
#[derive(Debug, Default)]
struct Sent {
    sent: u64,
    /// The numbers of the requests without a reply.
    missing: BTreeSet<u64>,
    /// The time of the last reply, and the longest time without one.
    replied: Option<Instant>,
    gap: Duration,
}

/// The pings of a client. They end when this is dropped.
#[derive(Debug)]
pub struct Pings {
    sent: Arc<Mutex<Sent>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pings {
    /// Begins to send a request from the client to the server in each interval.
    ///
    /// # Errors
    ///
    /// This program may not send such requests.
    pub fn new(lab: &Lab, every: Duration) -> anyhow::Result<Self> {
        let namespace = format!("{NAMESPACES}/{}", lab.namespace("client"));
        let namespace = File::open(&namespace).context(namespace)?;
        let sent = Arc::new(Mutex::new(Sent::default()));
        let is_over = Arc::new(AtomicBool::new(false));
        let (shared, over) = (Arc::clone(&sent), Arc::clone(&is_over));
        let (say, said) = std::sync::mpsc::channel();
        // Only this thread is in the client's namespace.
        let thread = std::thread::spawn(move || match socket(&namespace) {
            Ok(socket) => {
                let _ = say.send(Ok(()));
                work(&socket, every, &shared, &over);
            }
            Err(why) => drop(say.send(Err(why))),
        });
        said.recv().context("the pings")??;
        Ok(Self { sent, is_over, thread: Some(thread) })
    }

    /// Returns the number of requests so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        lock(&self.sent).sent
    }

    /// Returns how many of the requests with these numbers have no reply so far.
    #[must_use]
    pub fn missing(&self, numbers: std::ops::Range<u64>) -> usize {
        lock(&self.sent).missing.range(numbers).count()
    }

    /// Returns the longest time without a reply since the last call.
    #[must_use]
    pub fn take_gap(&self) -> Duration {
        std::mem::take(&mut lock(&self.sent).gap)
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(sent: &Mutex<Sent>) -> MutexGuard<'_, Sent> {
    sent.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Moves this thread into the namespace and opens a socket there.
fn socket(namespace: &File) -> anyhow::Result<OwnedFd> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (family, kind) = (AddressFamily::INET, SocketType::RAW);
    let socket = socket_with(family, kind, flags, Some(ipproto::ICMP)).context("a raw socket")?;
    connect(&socket, &SocketAddrV4::new(Ipv4Addr::from(SERVER), 0)).context("the server")?;
    Ok(socket)
}

fn work(socket: &OwnedFd, every: Duration, sent: &Mutex<Sent>, is_over: &AtomicBool) {
    let clock = Clock::new();
    let mut due = clock.now().mono;
    let mut room = [0; 256];
    while !is_over.load(Ordering::Relaxed) {
        let now = clock.now().mono;
        if now >= due {
            due = due.after(every).max(now);
            let number = {
                let sent = &mut *lock(sent);
                sent.missing.insert(sent.sent);
                sent.sent += 1;
                sent.sent - 1
            };
            // A request that cannot be sent has no reply.
            let _ = send(socket, &request(number), SendFlags::empty());
        }
        let left = due.since(now).min(every);
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut fds = [PollFd::new(socket, PollFlags::IN)];
        let _ = poll(&mut fds, Some(&timeout));
        while let Ok((read, _)) = recv(socket, &mut room, RecvFlags::empty()) {
            if let Some(number) = reply(&room[..read]) {
                let now = clock.now().mono;
                let sent = &mut *lock(sent);
                sent.missing.remove(&number);
                let last = sent.replied.replace(now).unwrap_or(now);
                sent.gap = sent.gap.max(now.since(last));
            }
        }
    }
}

/// Builds the request with this number.
fn request(number: u64) -> [u8; REQUEST] {
    let mut packet = [0; REQUEST];
    packet[0] = ECHO;
    packet[HEADER..].copy_from_slice(&number.to_be_bytes());
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Returns the number of the request of a reply. The packet begins with the header of IP.
fn reply(packet: &[u8]) -> Option<u64> {
    let length = usize::from(packet.first()? & 0xf) * 4;
    let message = packet.get(length..)?;
    let number = message.get(HEADER..REQUEST)?.first_chunk()?;
    (*message.first()? == ECHO_REPLY).then(|| u64::from_be_bytes(*number))
}

/// Computes the checksum of RFC 1071 of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let (words, _) = bytes.as_chunks::<2>();
    let sum: u32 = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_has_the_number_of_its_request() {
        let mut packet = [&[0x45; 1][..], &[0; 19], &request(0x0102_0304_0506_0708)].concat();
        assert_eq!(checksum(&packet[20..]), 0, "the checksum of a whole message is 0");
        assert_eq!(reply(&packet), None, "a request is no reply");
        packet[20] = ECHO_REPLY;
        assert_eq!(reply(&packet), Some(0x0102_0304_0506_0708));
        for end in 0..packet.len() {
            assert_eq!(reply(&packet[..end]), None);
        }
    }
}
