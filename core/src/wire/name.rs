//! The names of endpoints on the `sock` transport (`net/sock/sock.c:addr_parse`).

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The reason why a name does not belong to the `sock` transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadName {
    /// The name belongs to libfabric (`inet:tcp:…`). Only Motr's library supports this transport.
    Libfabric,
    /// The name is malformed.
    Syntax(&'static str),
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Libfabric => f.write_str(
                "a name of the libfabric transport, which needs Motr's library (build with the \
                 feature `libmotr`), or give a name of the sock transport with --motr-endpoint",
            ),
            Self::Syntax(why) => write!(
                f,
                "not an endpoint's name ({why}): expected inet:stream:IP@PORT or IP@tcp:12345:PORTAL:TMID"
            ),
        }
    }
}

impl core::error::Error for BadName {}

/// Parses the name of an endpoint. Names contain IP addresses, not DNS names:
///
/// - `inet:stream:IP@PORT`, `inet6:stream:IP@PORT`
/// - `IP@tcp:12345:PORTAL:TMID`, `0@lo:12345:PORTAL:TMID`, as in LNet. The port is `tmid | 1024 | (portal -
///   30) << 11`.
///
/// # Errors
///
/// If the name has none of these forms.
pub fn parse(name: &str) -> Result<SocketAddr, BadName> {
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return lnet(name);
    }
    let (family, rest) = name.split_once(':').ok_or(BadName::Syntax("no address family"))?;
    let (kind, rest) = rest.split_once(':').ok_or(BadName::Syntax("no kind of socket"))?;
    match (family, kind) {
        ("inet" | "inet6", "tcp" | "verbs" | "o2ib") => return Err(BadName::Libfabric),
        ("inet" | "inet6", "stream") => {}
        _ => return Err(BadName::Syntax("unknown family or kind of socket")),
    }
    let (ip, port) = rest.split_once('@').ok_or(BadName::Syntax("no port"))?;
    let port =
        number(port).and_then(|n| u16::try_from(n).ok()).ok_or(BadName::Syntax("bad port"))?;
    let ip = match family {
        "inet" => ip.parse::<Ipv4Addr>().map(IpAddr::from),
        _ => ip.parse::<Ipv6Addr>().map(IpAddr::from),
    };
    Ok(SocketAddr::new(ip.map_err(|_| BadName::Syntax("bad IP address"))?, port))
}

fn lnet(name: &str) -> Result<SocketAddr, BadName> {
    let (ip, rest) = name.split_once('@').ok_or(BadName::Syntax("no network"))?;
    let (network, rest) = rest.split_once(':').ok_or(BadName::Syntax("no portal"))?;
    let ip = match (ip, network) {
        ("0", "lo") => Ipv4Addr::LOCALHOST,
        (ip, _) => ip.parse().map_err(|_| BadName::Syntax("bad IP address"))?,
    };
    let mut numbers = rest.split(':').map(number);
    let (Some(Some(pid)), Some(Some(portal)), Some(Some(tmid)), None) =
        (numbers.next(), numbers.next(), numbers.next(), numbers.next())
    else {
        return Err(BadName::Syntax("expected three numbers after the network"));
    };
    if pid != 12345 || !(30..62).contains(&portal) || tmid >= 1024 {
        return Err(BadName::Syntax("pid, portal or transfer machine out of range"));
    }
    let port = tmid | 1 << 10 | (portal - 30) << 11;
    Ok(SocketAddr::new(ip.into(), u16::try_from(port).expect("5 bits, 1 bit and 10 bits")))
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// The display of an address as a name of `sock` (`net/sock/sock.c:addr_print`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name(pub SocketAddr);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.0.is_ipv4() { "inet" } else { "inet6" };
        write!(f, "{family}:stream:{}@{}", self.0.ip(), self.0.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_addresses() {
        let at = |text: &str| text.parse().unwrap();
        for (name, addr) in [
            ("inet:stream:10.0.0.7@3001", "10.0.0.7:3001"),
            ("inet6:stream:fe80::1@3001", "[fe80::1]:3001"),
            ("0@lo:12345:35:1", "127.0.0.1:11265"),
            ("10.0.0.7@tcp:12345:30:0", "10.0.0.7:1024"),
            ("10.0.0.7@tcp1:12345:61:1023", "10.0.0.7:65535"),
        ] {
            assert_eq!(parse(name), Ok(at(addr)), "{name}");
        }
        let there = at("127.0.0.1:11265");
        assert_eq!(alloc::format!("{}", Name(there)), "inet:stream:127.0.0.1@11265");
        assert_eq!(parse(&alloc::format!("{}", Name(there))), Ok(there));
    }

    #[test]
    fn other_names_are_refused() {
        assert_eq!(parse("inet:tcp:10.0.0.7@3001"), Err(BadName::Libfabric));
        for bad in [
            "",
            "inet",
            "inet:stream:host@3001",
            "inet:stream:10.0.0.7",
            "inet:stream:10.0.0.7@65536",
            "inet:stream:10.0.0.7@+1",
            "inet:stream:::1@1",
            "inet:dgram:10.0.0.7@1",
            "0@lo:12345:35:*",
            "0@lo:12345:29:1",
            "0@lo:12345:62:1",
            "0@lo:12345:35:1024",
            "0@lo:12346:35:1",
            "0@lo:12345:35:1:1",
            "0@lo",
        ] {
            assert!(matches!(parse(bad), Err(BadName::Syntax(_))), "{bad}");
        }
    }
}
