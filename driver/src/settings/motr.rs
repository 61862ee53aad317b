//! The settings of the way to Motr's processes: the transport, the endpoint, and the links.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hax_core::wire::{self, name::BadName};

use super::Error;
use super::flags::Flags;
use super::values::MotrTransport;

/// How hax speaks with Motr, and with whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MotrSettings {
    /// The way.
    pub transport: MotrTransport,
    /// Motr's library, where it is used; else the one that the system has.
    pub library: Option<PathBuf>,
    /// The name of hax's endpoint; else Consul says it.
    pub endpoint: Option<String>,
    /// How many connections processes may hold at a time.
    pub connections_max: usize,
    /// Whether processes are served that the configuration does not know.
    pub any_process: bool,
    /// How long pending notes are kept for a process that is away.
    pub link_grace: Duration,
}

/// Makes the whole of it.
pub(super) fn merge(flags: &Flags, file: &Flags) -> MotrSettings {
    let connections_max = flags.motr_connections_max.or(file.motr_connections_max);
    let link_grace = flags.link_grace.or(file.link_grace);
    MotrSettings {
        transport: flags.motr.or(file.motr).unwrap_or_default(),
        library: flags.libmotr.as_ref().or(file.libmotr.as_ref()).cloned(),
        endpoint: flags.motr_endpoint.as_ref().or(file.motr_endpoint.as_ref()).cloned(),
        connections_max: connections_max.map_or(2048, |count| count.get().into()),
        any_process: flags.any_process.or(file.any_process).unwrap_or(false),
        link_grace: link_grace.map_or(Duration::from_secs(60), |span| span.0),
    }
}

impl MotrSettings {
    /// What is wrong with the endpoint, if anything is.
    pub(super) fn check(&self) -> Option<Error> {
        let name = self.endpoint.as_ref()?;
        match (self.transport, endpoint(name)) {
            // Only Motr's library can say what is a name of its transports.
            (MotrTransport::Lib, _) | (MotrTransport::Auto, Err(EndpointError::Libfabric(_))) => {
                None
            }
            (_, address) => address.err().map(Error::Endpoint),
        }
    }
}

/// Why a Motr endpoint's name is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// libfabric.
    #[error(
        "the Motr endpoint {0} belongs to libfabric, which hax does not speak itself: say --motr auto, \
         which takes Motr's library for it, or give hax and its Motr processes an inet:stream:IP@PORT endpoint, with --motr-endpoint (HAX_MOTR_ENDPOINT) or in \
         Consul's entry of the service hax"
    )]
    Libfabric(String),
    /// Not a name at all.
    #[error(
        "{name:?} is not a Motr endpoint ({why}): expected inet:stream:IP@PORT or \
         IP@tcp:12345:PORTAL:TMID (--motr-endpoint, or Consul's entry of the service hax)"
    )]
    Unknown {
        /// What was given.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Where the endpoint `name` listens: an address that peers can connect to, since it stands in every
/// frame that they get.
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
