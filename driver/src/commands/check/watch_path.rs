//! The path of a watch: from Consul's agent on this machine to the node's name.

use std::net::SocketAddr;

use hax_core::discover::Identity;

use super::Remote;
use crate::host::platform::Platform;
use crate::net::listen;
use crate::settings::Settings;

/// Checks whether a watch that posts to the node's name, at these addresses, is or will be received.
pub(super) async fn check_watch_path<P: Platform>(
    settings: &Settings,
    who: &Identity,
    addresses: &[SocketAddr],
    running: bool,
) -> Result<((), String), String> {
    let to = format!("one that is sent to {}:{}", who.node, who.http_port);
    let mut wrong = Vec::new();
    for at in addresses {
        match check_listener::<P>(settings, who, *at, running).await {
            Ok(heard) => return Ok(((), format!("{to} ({}) {heard}", at.ip()))),
            Err(why) => wrong.push(why),
        }
    }
    Err(format!("{to} is not heard: {}", wrong.join("; ")))
}

/// Checks which program listens at one address.
async fn check_listener<P: Platform>(
    settings: &Settings,
    who: &Identity,
    at: SocketAddr,
    running: bool,
) -> Result<&'static str, String> {
    match listen::name(at) {
        Ok(_) if running => Err(format!("the hax that runs does not listen at {at}: restart hax")),
        Ok(_) => Ok("will be heard"),
        Err(why) if why.is_in_use() => {
            let there = Identity { http_host: at.ip().to_string().into(), ..who.clone() };
            let hax = Remote::of(settings, &there).map_err(|why| why.to_string())?;
            if hax.is_alive::<P>().await || hax.in_the_other_way().is_alive::<P>().await {
                return Ok("is heard by the hax that runs");
            }
            Err(format!("it is no hax that listens at {at}: see who does (ss -ltnp)"))
        }
        Err(why) => Err(why.to_string()),
    }
}
