//! The identity of this node, by settings and Consul.

use hax_core::base::fact::Metric;
use hax_core::base::time::{Next, Now};
use hax_core::discover::{Config, Discovery, Identity};
use hax_core::ha::fact::Fact;
use hax_core::machine::{ExitReason, Input, Machine, Output, Status};

use crate::host::clock;
use crate::host::drive::{HostContext, drive};
use crate::host::platform::Platform;
use crate::host::signals::Signals;
use crate::settings::Settings;

/// Asks Consul until the identity is known; returns `None` if it was stopped before. `seen` gets the facts.
pub(crate) async fn identify<P: Platform>(
    settings: &Settings,
    context: HostContext<P::Client>,
    signals: &Signals,
    seen: &mut dyn FnMut(&Fact),
) -> Option<Identity> {
    let http = settings.http.at.as_ref().map(|http| (http.host.as_str().into(), http.port));
    let config = Config {
        node: settings.node.as_deref().map(Into::into),
        fid: settings.fid,
        motr_endpoint: settings.motr.endpoint.as_deref().map(Into::into),
        ask_tls: settings.http.at.is_none() && settings.http.cert.is_none(),
        http,
        ask_services: false,
        seed: seed(),
    };
    search::<P>(config, context, signals, seen).await
}

/// Asks for the services of our process until they are known; returns `None` if it was stopped before.
#[cfg(feature = "libmotr")]
pub(crate) async fn services<P: Platform>(
    identity: &Identity,
    context: HostContext<P::Client>,
    signals: &Signals,
    seen: &mut dyn FnMut(&Fact),
) -> Option<hax_core::discover::Services> {
    let config = Config {
        node: Some(identity.node.clone()),
        fid: Some(identity.fid),
        motr_endpoint: Some(identity.endpoint.clone()),
        http: Some((identity.http_host.clone(), identity.http_port)),
        ask_tls: false,
        ask_services: true,
        seed: seed(),
    };
    search::<P>(config, context, signals, seen).await?.services
}

fn seed() -> u64 {
    clock::wall().0 ^ u64::from(std::process::id())
}

async fn search<P: Platform>(
    config: Config,
    context: HostContext<P::Client>,
    signals: &Signals,
    seen: &mut dyn FnMut(&Fact),
) -> Option<Identity> {
    let mut search = Search { discovery: Discovery::new(config), seen };
    drive::<P, _>(context, signals, None, &mut search).await;
    search.discovery.into_result().ok()
}

/// A discovery with a callback for its facts.
struct Search<'a> {
    discovery: Discovery,
    seen: &'a mut dyn FnMut(&Fact),
}

impl Machine for Search<'_> {
    type Fact = Fact;

    const GAUGES: &'static [Metric] = Discovery::GAUGES;

    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) -> Next {
        let before = out.len();
        let next = self.discovery.handle(now, input, out);
        for output in &out[before..] {
            if let Output::Fact(fact) = output {
                (self.seen)(fact);
            }
        }
        next
    }

    fn blocking_queries(&self) -> usize {
        self.discovery.blocking_queries()
    }

    fn gauges(&self) -> impl Iterator<Item = u64> {
        self.discovery.gauges()
    }

    fn status(&self) -> Status {
        self.discovery.status()
    }

    fn exit(&self) -> ExitReason {
        self.discovery.exit()
    }
}
