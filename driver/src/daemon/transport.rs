//! The choice of the transport to Motr: the wire itself, or Motr's library.

use std::net::SocketAddr;

use crate::settings::Settings;
use crate::settings::motr::{self, EndpointError};
use crate::settings::values::MotrTransport;

/// A transport that is ready to be used.
#[derive(Debug)]
pub enum Transport {
    /// The wire, listening at this address.
    Wire(SocketAddr),
    /// Motr's library, loaded.
    #[cfg(feature = "libmotr")]
    Library(Box<motr_sys::Library>),
}

/// The reason why there is no transport.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint's name cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Motr's library is required and cannot be loaded.
    #[error("Motr's library is to be used, {asked}: {why}")]
    Library {
        /// The setting or name that requires it.
        asked: String,
        /// The missing part, and what to do.
        why: String,
    },
}

/// Chooses the transport for the endpoint `name`, and loads the library if that is the choice.
///
/// # Errors
///
/// If the name does not fit the chosen transport, or the library does not exist.
pub fn choose(settings: &Settings, name: &str) -> Result<Transport, Error> {
    match (settings.motr.transport, motr::endpoint(name)) {
        (MotrTransport::Auto, Err(EndpointError::Libfabric(_))) | (MotrTransport::Lib, _) => {
            library(settings, name)
        }
        // The daemon asks for no transport where there is no Motr.
        (_, address) => Ok(Transport::Wire(address?)),
    }
}

#[cfg(feature = "libmotr")]
fn library(settings: &Settings, name: &str) -> Result<Transport, Error> {
    match crate::libmotr::open(settings.motr.library.as_deref()) {
        Ok(library) => Ok(Transport::Library(Box::new(library))),
        Err(why) => Err(Error::Library { asked: asked(settings, name), why: why.to_string() }),
    }
}

#[cfg(not(feature = "libmotr"))]
fn library(settings: &Settings, name: &str) -> Result<Transport, Error> {
    let why = "this hax is built without the feature libmotr: take one that has it, or give hax and its \
        Motr processes inet:stream:IP@PORT endpoints (--motr-endpoint)";
    Err(Error::Library { asked: asked(settings, name), why: why.into() })
}

/// Returns the reason to use the library.
fn asked(settings: &Settings, name: &str) -> String {
    match settings.motr.transport {
        MotrTransport::Lib => {
            format!("since --motr lib (HAX_MOTR, motr in the file) says so of the endpoint {name}")
        }
        _ => {
            format!("since nothing else speaks to the Motr endpoint {name} (libfabric)")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::flags::Flags;

    fn chosen(motr: Option<MotrTransport>, name: &str) -> Result<Transport, Error> {
        let libmotr = Some("/nonexistent/libmotr.so".into());
        let flags = Flags { motr, libmotr, ..Flags::default() };
        choose(&Settings::load(None, flags, |_| None).unwrap(), name)
    }

    #[test]
    fn the_endpoint_s_name_decides_unless_a_flag_does() {
        let (sock, fabric) = ("inet:stream:10.0.0.1@22001", "inet:tcp:10.0.0.1@22001");
        for how in [None, Some(MotrTransport::Auto), Some(MotrTransport::Wire)] {
            assert!(matches!(chosen(how, sock), Ok(Transport::Wire(_))), "{how:?}");
        }
        for (how, name) in [(None, fabric), (Some(MotrTransport::Lib), sock)] {
            let why = chosen(how, name).unwrap_err().to_string();
            assert!(why.contains(name) && why.contains("inet:stream:IP@PORT"), "{why}");
            if cfg!(feature = "libmotr") {
                assert!(why.contains("/nonexistent/libmotr.so"), "{why}");
            }
        }
        let why = chosen(Some(MotrTransport::Wire), fabric).unwrap_err().to_string();
        assert!(why.contains("--motr auto"), "{why}");
        let why = chosen(None, "nonsense").unwrap_err().to_string();
        assert!(why.contains("is not a Motr endpoint"), "{why}");
    }
}
