//! The daemon with Motr's library instead of the wire.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use hax_core::bridge::config;
use hax_core::discover::Identity;
use hax_core::ha::fact::Fact;
#[cfg(feature = "services")]
use hax_core::with_services::WithServices;

use super::{Daemon, Error};
use crate::exit::Exit;
use crate::host::drive::{HostContext, Sockets};
use crate::host::platform::Platform;
use crate::host::timer::within;
use crate::libmotr::{Config, Libmotr, Library, LibraryNode, StopOutcome};

/// The timeout for the stop of Motr's library. The library gives a dead peer up to 25 seconds.
const STOPS_WITHIN: Duration = Duration::from_secs(30);

impl<P: Platform> Daemon<'_, P> {
    /// Drives the node, with its services if the settings ask for them.
    async fn drive_library(
        &self,
        _identity: &Identity,
        context: HostContext<P::Client>,
        sockets: Sockets<P::Listener>,
        mut node: LibraryNode,
    ) -> Result<Exit, Error> {
        #[cfg(feature = "services")]
        if self.settings.services.on {
            let services = self.services(&_identity.node)?;
            let mut node = WithServices::new(node, services);
            return Ok(self.drive(context, sockets, &mut node).await);
        }
        Ok(self.drive(context, sockets, &mut node).await)
    }

    /// Runs a node that uses Motr's library.
    pub(super) async fn library(
        &self,
        identity: &Identity,
        library: &Library,
        sockets: Sockets<P::Listener>,
    ) -> Result<Exit, Error> {
        tracing::info!(target: "hax", version = %library.version(), "Motr's library is used");
        if self.settings.journal.path.is_some() {
            let why = "it is kept of the wire only, not of Motr's library".into();
            self.metrics.record(&Fact::JournalEnded { why });
        }
        #[cfg(feature = "services")]
        let context =
            if self.settings.services.on { self.services_context()? } else { self.context() };
        #[cfg(not(feature = "services"))]
        let context = self.context();
        let services = identity.services.expect("asked for where the library is used");
        let config = Config::of(identity.fid, services, &identity.endpoint);
        let motr = Arc::new(Libmotr::start(library.ha, library.spiel, config, context.waker()));
        let bridge = config::Config { spiel: true, ..self.bridge(identity) };
        let node = LibraryNode::new(bridge, Arc::clone(&motr));
        let drive = async { self.drive_library(identity, context, sockets, node).await };
        let mut early = None;
        let fails = async {
            match motr.ended().await {
                why @ (StopOutcome::Init(_) | StopOutcome::Start { .. }) => Err(Error::Motr(why)),
                // The library was stopped by the machine; the machine's host still has work to do.
                ended => {
                    early = Some(ended);
                    pending().await
                }
            }
        };
        let exit = or(drive, fails).await?;
        let ended = async {
            match early {
                Some(ended) => ended,
                None => motr.ended().await,
            }
        };
        match within::<P, _>(STOPS_WITHIN, ended).await {
            Some(StopOutcome::Stopped) => {}
            Some(why) => tracing::warn!(target: "hax", "{why}"),
            None => tracing::warn!(target: "hax", "Motr's library does not stop: left as it is"),
        }
        Ok(exit)
    }
}
