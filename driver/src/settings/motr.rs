//! The settings of the connection to Motr's processes: the transport, the endpoint, and the links.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hax_core::wire::{self, name::BadName};

use super::Error;
use super::flags::Flags;
use super::values::{MotrTransport, StateDir};

/// The transport to Motr, and its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MotrSettings {
    /// The transport.
    pub transport: MotrTransport,
    /// The path of Motr's library; by default the system's library.
    pub library: Option<PathBuf>,
    /// The name of hax's endpoint; by default Consul gives it.
    pub endpoint: Option<String>,
    /// The maximum number of processes' connections.
    pub connections_max: usize,
    /// Whether processes are served that are not in the configuration.
    pub any_process: bool,
    /// The time for which undelivered messages of a process that went away are kept.
    pub link_grace: Duration,
    /// The folder of the state with which links outlive hax.
    pub state_dir: StateDir,
    /// Whether a stop ends the links.
    pub end_links: bool,
}

/// Merges the settings.
pub(super) fn merge(
    flags: &Flags,
    file: &Flags,
    env: impl Fn(&'static str) -> Option<String>,
) -> MotrSettings {
    let connections_max = flags.motr_connections_max.or(file.motr_connections_max);
    let link_grace = flags.link_grace.or(file.link_grace);
    let state_dir = flags.state_dir.as_ref().or(file.state_dir.as_ref()).cloned();
    // systemd names the folders of RuntimeDirectory= here (systemd.exec(5)).
    let unit = || env("RUNTIME_DIRECTORY")?.split(':').next()?.parse().ok();
    let state_dir = state_dir.or_else(unit);
    MotrSettings {
        transport: flags.motr.or(file.motr).unwrap_or_default(),
        library: flags.libmotr.as_ref().or(file.libmotr.as_ref()).cloned(),
        endpoint: flags.motr_endpoint.as_ref().or(file.motr_endpoint.as_ref()).cloned(),
        connections_max: connections_max.map_or(2048, |count| count.get().into()),
        any_process: flags.any_process.or(file.any_process).unwrap_or(false),
        link_grace: link_grace.map_or(Duration::from_secs(60), |span| span.0),
        state_dir: state_dir.unwrap_or_default(),
        end_links: flags.end_links.or(file.end_links).unwrap_or(false),
    }
}

impl MotrSettings {
    /// Returns the error of the endpoint, if there is one.
    pub(super) fn check(&self) -> Option<Error> {
        let name = self.endpoint.as_ref()?;
        match (self.transport, endpoint(name)) {
            // Only Motr's library can tell which names its transports accept.
            (MotrTransport::Lib, _) | (MotrTransport::Auto, Err(EndpointError::Libfabric(_))) => {
                None
            }
            #[cfg(feature = "services")]
            (MotrTransport::None, _) => None,
            (_, address) => address.err().map(Error::Endpoint),
        }
    }
}

/// The reason why a Motr endpoint's name cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The endpoint belongs to libfabric.
    #[error(
        "the Motr endpoint {0} belongs to libfabric, which hax does not speak itself: say --motr auto, \
         which takes Motr's library for it, or give hax and its Motr processes an inet:stream:IP@PORT endpoint, with --motr-endpoint (HAX_MOTR_ENDPOINT) or in \
         Consul's entry of the service hax"
    )]
    Libfabric(String),
    /// The text is not an endpoint's name.
    #[error(
        "{name:?} is not a Motr endpoint ({why}): expected inet:stream:IP@PORT or \
         IP@tcp:12345:PORTAL:TMID (--motr-endpoint, or Consul's entry of the service hax)"
    )]
    Unknown {
        /// The given text.
        name: String,
        /// The error in it.
        why: &'static str,
    },
}

/// Returns the address at which the endpoint `name` listens. Peers must be able to connect to it, since it is
/// part of every frame that they receive.
pub fn endpoint(name: &str) -> Result<SocketAddr, EndpointError> {
    let unknown = |why| EndpointError::Unknown { name: name.into(), why };
    let address = wire::name::parse(name).map_err(|why| match why {
        BadName::Libfabric => EndpointError::Libfabric(name.into()),
        BadName::Syntax(why) => unknown(why),
    })?;
    if address.ip().is_unspecified() {
        return Err(unknown("peers cannot connect to this address"));
    }
    if address.port() == 0 {
        return Err(unknown("peers cannot connect to port 0"));
    }
    Ok(address)
}
