//! Who this is, by settings and Consul.

use hax_core::base::fact::Fact;
use hax_core::discover::{Config, Discovery, Identity};
use hax_core::node::Output;

use crate::clock;
use crate::platform::{Platform, Stage};
use crate::settings::Settings;
use crate::signals::Signals;

/// Asks until all is known; `None` if it was stopped before. `seen` is told the facts on the way.
pub(crate) async fn identify<P: Platform>(
    settings: &Settings,
    stage: Stage<P::Client>,
    signals: &Signals,
    mut seen: impl FnMut(&Fact),
) -> Option<Identity> {
    let http = settings.http.as_ref().map(|http| (http.host.as_str().into(), http.port));
    let mut discovery = Discovery::new(Config {
        node: settings.node.as_deref().map(Into::into),
        fid: settings.fid,
        motr_endpoint: settings.motr_endpoint.as_deref().map(Into::into),
        ask_tls: settings.http.is_none() && settings.http_cert.is_none(),
        http,
        seed: clock::wall().0 ^ u64::from(std::process::id()),
    });
    let machine = |now, input, out: &mut Vec<_>| {
        let next = discovery.handle(now, input, out);
        for output in &*out {
            if let Output::Fact(fact) = output {
                seen(fact);
            }
        }
        next
    };
    P::drive(stage, signals, None, machine).await;
    discovery.into_result().ok()
}
