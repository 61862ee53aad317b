//! The kernel's routes, by rtnetlink(7). It covers only what reading and replacing one route takes.
//!
//! The handler is a process with one to three requests, so the messages are written out here: a library for
//! all of rtnetlink has fifty thousand lines.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

/// Message types and flags of `linux/netlink.h`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP_INTERRUPTED: u16 = 0x10;
const REPLACE: u16 = 0x100;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;

/// Message types, route types and attribute types of `linux/rtnetlink.h`.
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
const UNICAST: u8 = 1;
/// The kernel's own route types: local, broadcast, anycast and multicast.
const OWN_KINDS: std::ops::RangeInclusive<u8> = 2..=5;
const PROTOCOL_STATIC: u8 = 4;
const FLAG_ONLINK: u32 = 4;
const FLAG_CLONED: u32 = 0x200;
const DST: u16 = 1;
const OIF: u16 = 4;
const GATEWAY: u16 = 5;
const PRIORITY: u16 = 6;
const PREFSRC: u16 = 7;
const METRICS: u16 = 8;
const MULTIPATH: u16 = 9;
const CACHEINFO: u16 = 12;
const TABLE: u16 = 15;

/// The lengths of `struct nlmsghdr`, `struct rtmsg` and `struct rtattr`.
const HEADER: usize = 16;
const ROUTE: usize = 12;
const ATTRIBUTE: usize = 4;

/// The size of the receive buffer, in bytes. It exceeds the kernel's largest datagram (`NLMSG_GOODSIZE`, or
/// as much as the reader's buffer takes).
const DATAGRAM: usize = 64 << 10;

/// The maximum number of attempts to read the routes. The kernel reports a read as interrupted if the table
/// changed meanwhile.
const READS: u32 = 10;

/// A destination in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) table: u32,
    pub(super) ip: IpAddr,
    pub(super) prefix: u8,
}

/// A next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) gateway: IpAddr,
    /// The index of the interface, if it matters.
    pub(super) device: Option<u32>,
}

/// One route, as the kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    header: [u8; ROUTE],
    attributes: Vec<(u16, Vec<u8>)>,
}

/// A netlink socket.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Returns the routes to a destination in a table, in the order of their metric.
    pub(super) fn routes(&mut self, place: Place) -> io::Result<Vec<Route>> {
        for _ in 0..READS {
            let body = [family(place.ip), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            self.send(GET_ROUTE, REQUEST | DUMP, &body)?;
            if let Some(mut routes) = self.dump(place)? {
                routes.sort_by_key(Route::metric);
                return Ok(routes);
            }
        }
        Err(io::Error::other("the kernel's routes change faster than they can be read"))
    }

    /// Reads the routes once. Returns `None` if the table changed meanwhile.
    fn dump(&self, place: Place) -> io::Result<Option<Vec<Route>>> {
        let (mut routes, mut whole) = (Vec::new(), true);
        loop {
            for message in &self.receive()? {
                whole &= message.flags & DUMP_INTERRUPTED == 0;
                match message.kind {
                    DONE => return Ok(whole.then_some(routes)),
                    ERROR => message.result()?,
                    NEW_ROUTE => {
                        routes.extend(Route::read(&message.body).filter(|r| r.is_at(place)))
                    }
                    _ => {}
                }
            }
        }
    }

    /// Replaces the route with the same destination, table and metric, or adds the route.
    pub(super) fn replace(&mut self, route: &Route) -> io::Result<()> {
        self.send(NEW_ROUTE, REQUEST | ACK | CREATE | REPLACE, &route.write())?;
        loop {
            for message in &self.receive()? {
                if message.kind == ERROR {
                    return message.result();
                }
            }
        }
    }

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes());
        message.extend(body);
        send(&self.socket, &message, SendFlags::empty())?;
        Ok(())
    }

    /// Receives the next messages in reply to the last request.
    fn receive(&self) -> io::Result<Vec<Message>> {
        let mut datagram = vec![0; DATAGRAM];
        let (_, length) = recv(&self.socket, &mut datagram[..], RecvFlags::TRUNC)?;
        let Some(mut left) = datagram.get(..length) else {
            return Err(io::Error::other("a message of the kernel is too long"));
        };
        let mut messages = Vec::new();
        while let Some((message, rest)) = Message::split(left) {
            messages.extend((message.sequence == self.sequence).then_some(message));
            left = rest;
        }
        Ok(messages)
    }
}

struct Message {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: Vec<u8>,
}

impl Message {
    fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let body = bytes.get(HEADER..length)?.to_vec();
        let (kind, flags) = (u16_at(bytes, 4)?, u16_at(bytes, 6)?);
        let message = Self { kind, flags, sequence: u32_at(bytes, 8)?, body };
        Some((message, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
    }

    /// Returns the result in an `ERROR` message: 0 is an acknowledgement.
    fn result(&self) -> io::Result<()> {
        match u32_at(&self.body, 0).map_or(0, u32::cast_signed) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno.wrapping_neg())),
        }
    }
}

impl Route {
    /// Creates a route with this next hop. The other attributes are taken from `before`, if it is given.
    pub(super) fn new(place: Place, hop: Hop, before: Option<&Self>) -> Self {
        let mut header = before.map_or([0; ROUTE], |route| route.header);
        let is_unicast = header[7] == UNICAST;
        header[0] = family(place.ip);
        header[1] = place.prefix;
        header[4] = u8::try_from(place.table).unwrap_or_default();
        if !is_unicast {
            header[5] = PROTOCOL_STATIC;
        }
        // The scope is `RT_SCOPE_UNIVERSE`, since the route leads through a router.
        header[6] = 0;
        header[7] = UNICAST;
        header[8..].fill(0);
        let mut attributes = vec![(DST, octets(place.ip)), (GATEWAY, octets(hop.gateway))];
        attributes.extend(hop.device.map(|index| (OIF, index.to_ne_bytes().to_vec())));
        attributes.push((TABLE, place.table.to_ne_bytes().to_vec()));
        let kept = before.map_or(&[][..], |route| &route.attributes);
        let is_kept =
            |kind: u16| kind == PRIORITY || is_unicast && matches!(kind, PREFSRC | METRICS);
        attributes.extend(kept.iter().filter(|(kind, _)| is_kept(*kind)).cloned());
        Self { header, attributes }
    }

    /// Returns whether the route leads to this next hop and to no other.
    pub(super) fn is_by(&self, hop: Hop) -> bool {
        self.header[7] == UNICAST
            && self.gateway() == Some(hop.gateway)
            && self.attribute(MULTIPATH).is_none()
            && hop.device.is_none_or(|device| self.device() == Some(device))
    }

    /// Describes the next hop as text.
    pub(super) fn describe(&self) -> String {
        match self.gateway() {
            Some(gateway) => gateway.to_string(),
            None if self.attribute(MULTIPATH).is_some() => "several next hops".into(),
            None => "no next hop".into(),
        }
    }

    /// Returns the metric. Of two routes the kernel uses the one with the lower metric.
    pub(super) fn metric(&self) -> u32 {
        self.attribute(PRIORITY).and_then(|metric| u32_at(metric, 0)).unwrap_or_default()
    }

    fn gateway(&self) -> Option<IpAddr> {
        let octets = self.attribute(GATEWAY)?;
        let v4 = <[u8; 4]>::try_from(octets).ok().map(IpAddr::from);
        v4.or_else(|| <[u8; 16]>::try_from(octets).ok().map(IpAddr::from))
    }

    fn device(&self) -> Option<u32> {
        u32_at(self.attribute(OIF)?, 0)
    }

    fn is_at(&self, place: Place) -> bool {
        let [family_, prefix, _, _, table, _, _, kind, ..] = self.header;
        let table = self
            .attribute(TABLE)
            .and_then(|table| u32_at(table, 0))
            .unwrap_or_else(|| table.into());
        let ip = self.attribute(DST).map_or(place.prefix == 0, |dst| *dst == octets(place.ip));
        let is_shown = !OWN_KINDS.contains(&kind) && self.flags() & FLAG_CLONED == 0;
        is_shown
            && ip
            && family_ == family(place.ip)
            && prefix == place.prefix
            && table == place.table
    }

    fn flags(&self) -> u32 {
        u32_at(&self.header, 8).unwrap_or_default()
    }

    fn attribute(&self, kind: u16) -> Option<&[u8]> {
        self.attributes.iter().find(|(of, _)| *of == kind).map(|(_, value)| &value[..])
    }

    fn read(body: &[u8]) -> Option<Self> {
        let (header, mut left) = body.split_first_chunk::<ROUTE>()?;
        let mut attributes = Vec::new();
        while left.len() >= ATTRIBUTE {
            let length = usize::from(u16_at(left, 0)?);
            attributes.push((u16_at(left, 2)?, left.get(ATTRIBUTE..length)?.to_vec()));
            left = left.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Some(Self { header: *header, attributes })
    }

    /// Encodes the route for a request. Values that only the kernel sets are left out.
    fn write(&self) -> Vec<u8> {
        let mut header = self.header;
        header[8..].copy_from_slice(&(self.flags() & FLAG_ONLINK).to_ne_bytes());
        let mut body = header.to_vec();
        for (kind, value) in self.attributes.iter().filter(|(kind, _)| *kind != CACHEINFO) {
            let length = u16::try_from(ATTRIBUTE + value.len()).unwrap_or(u16::MAX);
            body.extend(length.to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        body
    }
}

/// Returns `AF_INET` or `AF_INET6`.
fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 2 } else { 10 }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(prefix: u8) -> Place {
        Place { table: 1000, ip: IpAddr::from([192, 0, 2, 0]), prefix }
    }

    #[test]
    fn a_route_survives_the_way() {
        let hop = Hop { gateway: IpAddr::from([10, 0, 0, 1]), device: Some(7) };
        let route = Route::new(place(24), hop, None);
        let read = Route::read(&route.write()).unwrap();
        assert_eq!(read, route);
        assert!(read.is_by(hop) && read.is_at(place(24)) && !read.is_at(place(25)));
        assert!(read.is_by(Hop { device: None, ..hop }));
        assert!(!read.is_by(Hop { device: Some(8), ..hop }));
        assert!(!read.is_by(Hop { gateway: IpAddr::from([10, 0, 0, 2]), ..hop }));
    }

    #[test]
    fn what_is_no_message_is_passed_over() {
        for bytes in [&[][..], &[1, 2, 3], &[0; 16], &[255; 16], &[8, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(Message::split(bytes).is_none(), "{bytes:?}");
        }
        for length in [0_u8, 1, 3, 5, 200] {
            let body = [&[0; ROUTE][..], &[length, 0, 1, 0]].concat();
            assert!(Route::read(&body).is_none(), "{length}");
        }
    }
}
