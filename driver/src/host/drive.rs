//! Drives one machine: what its outputs start, and the clock and the inbox that they share.

use std::convert::Infallible;
use std::future::pending;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use futures_lite::future::{or, zip};
use hax_core::base::errno::Errno;
use hax_core::base::fact::Report;
use hax_core::base::time::{Instant, Next, Now};
use hax_core::ha::spiel;
use hax_core::machine::{Input, Machine, Output, Status};

use super::clock::Clock;
use super::consul::Consul;
use super::http::Http;
use super::net::Net;
use super::platform::{Client as _, Platform, Task as _};
use super::run::{self, Runtime, Tick as _};
use super::signals::Signals;
use super::timer::within;
use super::workers::{self, Workers};
use crate::http::{HttpAccess, Limits};
use crate::observe::metrics::Metrics;
use crate::observe::notify::{self, Watchdog};

/// How many inputs may wait for a machine. A full inbox holds back peers and answers 503.
const INBOX: usize = 512;

/// How long peers have to do their part of the last closes.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// How long the last HTTP responses may take to leave.
const RESPOND_WITHIN: Duration = Duration::from_secs(1);

/// How long helper programs may take to end, once the machine has, and clients to read their last answers.
const WORKERS_WITHIN: Duration = Duration::from_secs(2);

/// What a command to the cluster hears where there is no library of Motr's: EOPNOTSUPP.
const NO_LIBRARY: Errno = Errno(95);

/// What one machine is driven with.
pub struct HostContext<C> {
    /// The time.
    pub clock: Clock,
    /// What is counted and timed.
    pub metrics: Arc<Metrics>,
    /// Consul.
    pub client: Arc<C>,
    /// What HTTP clients may.
    pub limits: Limits,
    /// Which programs it may run, and how many.
    pub exec: workers::Settings,
    /// Where clients' pipes are, for a machine that is asked over them.
    pub folder: Option<workers::Folder>,
    /// What the machine is told, by whom and to whom; bounded.
    pub inbox: (Sender<Input>, Receiver<Input>),
}

impl<C> HostContext<C> {
    /// A context with an empty inbox.
    #[must_use]
    pub fn new(clock: Clock, metrics: Arc<Metrics>, client: Arc<C>, limits: Limits) -> Self {
        let (exec, inbox) = (Default::default(), run::inbox(INBOX));
        Self { clock, metrics, client, limits, exec, folder: None, inbox }
    }

    /// Lets the machine run, from any thread. A full inbox does that too.
    pub fn waker(&self) -> impl Fn() + Send + use<C> {
        let sender = self.inbox.0.clone();
        move || drop(sender.try_send(Input::TICK))
    }
}

/// The sockets of a node, bound already: a port that is in use is found before anything is promised.
pub struct Sockets<L> {
    /// Motr's processes connect here, where hax speaks the wire.
    pub motr: Option<L>,
    /// How many may be connected.
    pub motr_connections_max: usize,
    /// HTTP is served here, and wherever else a listener is made later.
    pub http: Receiver<L>,
    /// To whom.
    pub access: Arc<HttpAccess>,
}

/// Drives `machine` until it exits; the first signal is its stop. With `sockets` it is served, and what it
/// left to be written is written before this completes. Its gauges, and what its status becomes, are told.
pub async fn drive<P: Platform, M: Machine<Fact: 'static>>(
    context: HostContext<P::Client>,
    signals: &Signals,
    sockets: Option<Sockets<P::Listener>>,
    machine: &mut M,
) {
    context.client.reserve(machine.blocking_queries());
    let mut watchdog = Watchdog::new(|name| std::env::var(name).ok());
    let (metrics, mut told) = (Arc::clone(&context.metrics), machine.status().text);
    let mut step = |now, input, out: &mut Vec<_>| {
        let next = machine.handle(now, input, out);
        metrics.observe(machine.gauges());
        let Status { text: words, stopping } = machine.status();
        // The stop says its own.
        if words != told && !stopping {
            notify::status(words);
            told = words;
        }
        watchdog.pass(now, next)
    };
    host::<P, M::Fact>(context, signals, sockets, &mut step).await;
}

/// One step of a machine: it takes an input and appends what follows from it.
type Step<'a, F> = &'a mut dyn FnMut(Now, Input, &mut Vec<Output<F>>) -> Next;

/// Hosts a machine until it exits. It is known by its step alone, so that there is one such host in the
/// program, whatever machines it has.
async fn host<P: Platform, F: Report + 'static>(
    context: HostContext<P::Client>,
    signals: &Signals,
    sockets: Option<Sockets<P::Listener>>,
    step: Step<'_, F>,
) {
    let HostContext { clock, metrics, client, limits, exec, folder, inbox } = context;
    let (sender, inbox) = inbox;
    let net = Arc::new(Net::<P, _>::new(sender.clone(), Input::Net));
    let http = Http::<P, _>::new(sender.clone(), Input::Http, limits, Arc::clone(&metrics));
    let consul = Consul::new(client, Arc::clone(&metrics), sender.clone(), Input::Consul);
    let (mut listening, mut serving) = (None, None);
    if let Some(sockets) = sockets {
        let max = sockets.motr_connections_max;
        listening = sockets.motr.map(|listener| accept(Arc::clone(&net), listener, max));
        let (close, closed) = async_channel::bounded::<Infallible>(1);
        let served = P::spawn(http.serve_all(sockets.http, sockets.access, closed));
        serving = Some((close, served));
    }
    let stop = async {
        signals.stop().await;
        notify::stopping();
        let _ = sender.send(Input::Stop).await;
        pending().await
    };
    let (over, tell) = (http.closed(), sender.clone());
    let closed = async {
        while let Ok(closed) = over.recv().await {
            let _ = tell.send(Input::HttpStream(closed)).await;
        }
        pending().await
    };
    let workers = match Workers::new(exec, folder, sender.clone()) {
        Ok(workers) => workers,
        Err(why) => return tracing::error!(target: "hax", %why, "no thread for pipes"),
    };
    let (net, http, sender, fact) = (&net, &http, &sender, PhantomData);
    let mut host = Host { clock, metrics, net, consul, http, workers, sender, fact };
    or(run::run(&mut host, &inbox, step), or(stop, closed)).await;
    // Nobody hears what still comes; whoever says it shall not wait for that.
    inbox.close();
    http.give_up();
    let motr = match listening {
        Some((close, listener)) => {
            close.close();
            Some(listener.await)
        }
        None => None,
    };
    let respond = async {
        if let Some((close, served)) = serving {
            close.close();
            within::<P, _>(RESPOND_WITHIN, served).await;
        }
    };
    let worked = host.workers.shut_down(WORKERS_WITHIN);
    zip(worked, zip(respond, net.shut_down(motr, FLUSH_WITHIN))).await;
}

/// Accepts connections in a task of its own, until it is closed; then the listener is given back.
///
/// In the machine's task it would have its turn when the machine has, which a thread full of busy connections
/// gives it seldom; and who accepts much in one turn keeps the others waiting.
fn accept<P: Platform>(
    net: Arc<Net<P, Input>>,
    listener: P::Listener,
    max: usize,
) -> (Sender<Infallible>, P::Task<P::Listener>) {
    let (close, closed) = async_channel::bounded::<Infallible>(1);
    let accepting = async move {
        let closed = async {
            let _ = closed.recv().await;
        };
        or(closed, async { net.listen(&listener, max).await }).await;
        listener
    };
    (close, P::spawn(accepting))
}

/// The runtime of one machine.
struct Host<'a, P: Platform, F> {
    clock: Clock,
    metrics: Arc<Metrics>,
    net: &'a Net<P, Input>,
    consul: Consul<P, Input>,
    http: &'a Http<P, Input>,
    workers: Workers,
    sender: &'a Sender<Input>,
    fact: PhantomData<F>,
}

impl<P: Platform, F> Host<'_, P, F> {
    /// Tells the machine something, once its inbox has room.
    fn say(&self, input: Option<Input>) {
        let Some(input) = input else { return };
        let sender = self.sender.clone();
        P::spawn(async move { drop(sender.send(input).await) }).detach();
    }
}

impl<P: Platform, F: Report + 'static> Runtime for Host<'_, P, F> {
    type Input = Input;
    type Output = Output<F>;

    fn now(&mut self) -> Now {
        self.clock.now()
    }

    async fn sleep_until(&self, at: Instant) {
        // A machine that has more to do at once lets sockets have their turn in between.
        P::yield_now().await;
        // What is due already does not wait for a timer, which may be a millisecond coarse.
        if at > self.clock.now().mono {
            P::sleep_until(self.clock.at(at)).await;
        }
    }

    fn execute(&mut self, output: Output<F>) {
        match output {
            Output::Net(command) => self.net.execute(command),
            Output::Consul(command) => self.consul.execute(command),
            Output::Spiel(call) => {
                // A machine that has Motr's library asks it itself.
                let reply = spiel::Reply { id: call.id, result: Err(NO_LIBRARY) };
                self.say(Some(Input::Spiel(reply)));
            }
            Output::Exec(command) => {
                let refused = self.workers.exec(command);
                self.say(refused);
            }
            Output::File(command) => {
                let failed = self.workers.file(command);
                self.say(failed);
            }
            Output::Fifo(response) => self.workers.fifo(response),
            Output::Http(response) => self.http.execute(*response),
            Output::HttpStream(command) => self.http.stream(command),
            Output::Fact(fact) => self.metrics.record(&fact),
        }
    }
}
