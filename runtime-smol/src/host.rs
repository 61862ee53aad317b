//! The runtime of one machine: what its outputs start, and the clock and inbox that they share.

use std::convert::Infallible;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_io::{Async, Timer};
use futures_lite::future::zip;
use hax_core::base::time::{Instant, Next, Now};
use hax_core::node::{Input, Output};
use hax_driver::host::clock::Clock;
use hax_driver::host::platform::{self, Net as _, Stage};
use hax_driver::host::run::Runtime;
use hax_driver::host::signals::Signals;
use hax_driver::observe::metrics::Metrics;
use hax_driver::observe::notify::{self, Watchdog};

use crate::consul::{Client, Consul};
use crate::http::Http;
use crate::net::Net;
use crate::tasks::{self, within};

/// How long peers have to do their part of the last closes.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// How long the last HTTP responses may take to leave.
const RESPOND_WITHIN: Duration = Duration::from_secs(1);

/// The sockets of a node.
pub type Sockets = platform::Sockets<Async<TcpListener>>;

/// One machine's runtime.
pub struct Host {
    clock: Clock,
    metrics: Arc<Metrics>,
    net: Rc<Net<Input>>,
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
            net: Rc::new(Net::new(sender.clone(), Input::Net)),
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
        let (sender, stop) = (self.sender.clone(), signals.clone());
        let stopping = tasks::spawn(async move {
            stop.stop().await;
            notify::stopping();
            let _ = sender.send(Input::Stop).await;
        });
        let mut serving = None;
        if let Some(sockets) = sockets {
            let max = sockets.motr_connections_max;
            let accepting = sockets.motr.map(Rc::new).map(|motr| {
                let (net, listener) = (Rc::clone(&self.net), Rc::clone(&motr));
                (motr, tasks::spawn(async move { net.listen(&listener, max).await }))
            });
            let (close, closed) = async_channel::bounded::<Infallible>(1);
            let served = tasks::spawn(self.http.serve_all(sockets.http, sockets.door, closed));
            serving = Some((accepting, close, served));
        }
        let inbox = self.inbox.clone();
        hax_driver::host::run::run(&mut self, &inbox, machine).await;
        // Nobody hears what still comes; whoever says it shall not wait for that.
        inbox.close();
        drop(stopping);
        self.http.give_up();
        let Some((accepting, close, served)) = serving else { return };
        let mut listener = None;
        if let Some((motr, accepting)) = accepting {
            accepting.cancel().await;
            listener = Rc::into_inner(motr);
        }
        close.close();
        let respond = within(RESPOND_WITHIN, served);
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
        futures_lite::future::yield_now().await;
        Timer::at(self.clock.at(at)).await;
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
