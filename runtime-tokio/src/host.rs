//! The runtime of one machine: what its outputs start, and the clock and inbox that they share.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use futures_lite::future::zip;
use hax_core::base::time::{Instant, Next, Now};
use hax_core::node::{Input, Output};
use hax_driver::host::clock::Clock;
use hax_driver::host::platform::{self, Net as _, Stage};
use hax_driver::host::run::Runtime;
use hax_driver::host::signals::Signals;
use hax_driver::observe::metrics::Metrics;
use hax_driver::observe::notify::{self, Watchdog};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::consul::{Client, Consul};
use crate::http::Http;
use crate::net::Net;

/// How long peers have to do their part of the last closes.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// How long the last HTTP responses may take to leave.
const RESPOND_WITHIN: Duration = Duration::from_secs(1);

/// The sockets of a node.
pub type Sockets = platform::Sockets<TcpListener>;

/// One machine's runtime.
pub struct Host {
    clock: Clock,
    metrics: Arc<Metrics>,
    net: Arc<Net<Input>>,
    consul: Consul<Input>,
    http: Http<Input>,
    sender: Sender<Input>,
    inbox: Receiver<Input>,
}

impl Host {
    /// A runtime for a machine that has not started.
    #[must_use]
    pub fn new(stage: Stage<Client>) -> Self {
        let Stage { clock, metrics, client, limits, inbox: (sender, inbox) } = stage;
        Self {
            clock,
            net: Arc::new(Net::new(sender.clone(), Input::Net)),
            consul: Consul::new(client, Arc::clone(&metrics), sender.clone(), Input::Consul),
            http: Http::new(sender.clone(), Input::Http, limits, Arc::clone(&metrics)),
            metrics,
            sender,
            inbox,
        }
    }

    /// Drives `machine` until it exits; the first signal is its stop. With `sockets` it is served,
    /// and what it left to be written is written before this returns.
    pub async fn drive(
        mut self,
        signals: &Signals,
        sockets: Option<Sockets>,
        mut machine: impl FnMut(Now, Input, &mut Vec<Output>) -> Next,
    ) {
        let mut watchdog = Watchdog::new(|name| std::env::var(name).ok());
        let machine = |now, input, out: &mut Vec<_>| {
            let next = machine(now, input, out);
            watchdog.pass(now, next)
        };
        let mut tasks = JoinSet::new();
        let (sender, stop) = (self.sender.clone(), signals.clone());
        tasks.spawn(async move {
            stop.stop().await;
            notify::stopping();
            let _ = sender.send(Input::Stop).await;
        });
        let (mut serving, mut listening) = (None, None);
        if let Some(sockets) = sockets {
            let max = sockets.motr_connections_max;
            if let Some(motr) = sockets.motr.map(Arc::new) {
                let (net, listener) = (Arc::clone(&self.net), Arc::clone(&motr));
                tasks.spawn(async move { net.listen(&listener, max).await });
                listening = Some(motr);
            }
            let (close, closed) = async_channel::bounded::<Infallible>(1);
            let served = self.http.serve_all(sockets.http, sockets.door, closed);
            serving = Some((close, tokio::spawn(served)));
        }
        let inbox = self.inbox.clone();
        hax_driver::host::run::run(&mut self, &inbox, machine).await;
        // Nobody hears what still comes; whoever says it shall not wait for that.
        inbox.close();
        tasks.shutdown().await;
        self.http.give_up();
        let respond = async {
            if let Some((close, served)) = serving {
                close.close();
                let _ = tokio::time::timeout(RESPOND_WITHIN, served).await;
            }
        };
        // Nobody else has it: the task that listened has ended.
        let listener = listening.and_then(Arc::into_inner);
        zip(respond, self.net.shut_down(listener, FLUSH_WITHIN)).await;
    }
}

impl Runtime for Host {
    type Input = Input;
    type Output = Output;

    fn now(&mut self) -> Now {
        self.clock.now()
    }

    async fn sleep_until(&self, at: Instant) {
        // A machine that has more to do at once lets sockets have their turn in between.
        tokio::task::yield_now().await;
        // Tokio's timers are a millisecond coarse: what is due already does not wait for the next.
        if at <= self.clock.now().mono {
            return;
        }
        tokio::time::sleep_until(self.clock.at(at).into()).await;
    }

    fn execute(&mut self, output: Output) {
        match output {
            Output::Net(command) => self.net.execute(command),
            Output::Consul(command) => self.consul.execute(command),
            Output::Spiel(call) => unreachable!("{call:?} without Motr's library"),
            Output::Http(response) => self.http.execute(*response),
            Output::Fact(fact) => self.metrics.record(&fact),
        }
    }
}
