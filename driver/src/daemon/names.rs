//! HTTP at the node's name: hare makes Consul's watches post there, whatever address the agent advertises.

use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use async_channel::Sender;

use crate::host::platform::Platform;
use crate::net::listen;

/// The time between two lookups of a name without an address.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(30);

/// Returns all addresses of a node's name.
///
/// # Errors
///
/// If the name has no address. The text says what to do.
pub(crate) async fn addresses<P: Platform>(
    node: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, String> {
    let found = P::lookup(node, port).await.and_then(|mut found| {
        found.sort_unstable();
        found.dedup();
        if found.is_empty() { Err(io::Error::other("no address")) } else { Ok(found) }
    });
    found.map_err(|why| {
        format!("the node's name {node} has no address here: {why} ({})", listen::NAME_HINT)
    })
}

/// Listens at all addresses of the node's name, in addition to `bound`, as soon as the name has an address of
/// this host. A reason why hax cannot listen is logged once.
pub(super) async fn listen<P: Platform>(
    node: &str,
    bound: SocketAddr,
    listeners: &Sender<P::Listener>,
) -> ! {
    let mut said = String::new();
    loop {
        let mut is_heard = false;
        let mut wrong = Vec::new();
        match addresses::<P>(node, bound.port()).await {
            Ok(addresses) => {
                for at in addresses {
                    let heard = if covers(bound, at) { Ok(()) } else { open::<P>(at, listeners) };
                    is_heard |= heard.is_ok();
                    wrong.extend(heard.err());
                }
            }
            Err(why) => wrong.push(why),
        }
        let wrong = wrong.join("; ");
        if !wrong.is_empty() && wrong != said {
            tracing::warn!(target: "hax", "watches that are sent to {node} may not be heard: {wrong}");
            said = wrong;
        }
        if is_heard {
            pending::<()>().await;
        }
        P::sleep(LOOKUP_INTERVAL).await;
    }
}

fn open<P: Platform>(at: SocketAddr, listeners: &Sender<P::Listener>) -> Result<(), String> {
    let listener = listen::name(at).map_err(|why| why.to_string())?;
    let listener = P::listener(listener).map_err(|why| why.to_string())?;
    tracing::info!(target: "hax", http = %at, "hax listens at its node's name, too");
    // The send fails only when the daemon ends.
    let _ = listeners.try_send(listener);
    Ok(())
}

/// Returns whether a listener at `bound` also gets the connections to `address`.
fn covers(bound: SocketAddr, address: SocketAddr) -> bool {
    let (own, asked) = (bound.ip().to_canonical(), address.ip().to_canonical());
    let all = match own {
        IpAddr::V4(own) => own.is_unspecified() && asked.is_ipv4(),
        IpAddr::V6(own) => own.is_unspecified(),
    };
    bound.port() == address.port() && (all || own == asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_socket_may_serve_many_addresses() {
        for (bound, address, covered) in [
            ("10.0.0.1:8008", "10.0.0.1:8008", true),
            ("10.0.0.1:8008", "10.0.0.1:8009", false),
            ("10.0.0.1:8008", "10.0.0.2:8008", false),
            ("0.0.0.0:8008", "10.0.0.2:8008", true),
            ("0.0.0.0:8008", "[::1]:8008", false),
            ("[::]:8008", "10.0.0.2:8008", true),
            ("[::]:8008", "[::1]:8008", true),
            ("10.0.0.1:8008", "[::ffff:10.0.0.1]:8008", true),
        ] {
            assert_eq!(
                covers(bound.parse().unwrap(), address.parse().unwrap()),
                covered,
                "{bound}"
            );
        }
    }
}
