//! The host of one machine: the ports for its outputs, and their common clock and inbox.

use std::convert::Infallible;
use std::future::pending;
use std::marker::PhantomData;
#[cfg(feature = "services")]
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
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
#[cfg(feature = "services")]
use super::http::LocalClients;
use super::keeper::Keeper;
use super::net::Net;
use super::platform::{Client as _, Platform, Task as _};
use super::run::{self, Runtime, Tick as _};
use super::signals::Signals;
use super::timer::within;
use super::workers::{self, Workers};
use crate::http::{HttpAccess, Limits};
use crate::observe::metrics::Metrics;
use crate::observe::notify::{self, Watchdog};
use crate::state::StateFile;

/// The capacity of a machine's inbox. A full inbox holds back peers and HTTP requests.
const INBOX: usize = 512;

/// The time for peers to close their sides at the shutdown.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// The time for sending the last HTTP responses.
const RESPOND_WITHIN: Duration = Duration::from_secs(1);

/// The time for helper programs to end after the machine's exit, and for clients to read their last
/// responses.
const WORKERS_WITHIN: Duration = Duration::from_secs(2);

/// The error of a command to the cluster without Motr's library: EOPNOTSUPP.
const NO_LIBRARY: Errno = Errno(95);

/// The context of one machine: its clock, clients and limits.
pub struct HostContext<C> {
    /// The clock.
    pub clock: Clock,
    /// The counters and timings.
    pub metrics: Arc<Metrics>,
    /// The client of Consul.
    pub client: Arc<C>,
    /// The limits of the HTTP port.
    pub limits: Limits,
    /// The helper programs that the machine may run, and their number.
    pub exec: workers::Settings,
    /// The folder of clients' pipes, for a machine that serves them.
    pub folder: Option<workers::Folder>,
    /// The keeper's folder, for a machine with services.
    pub keeper: Option<PathBuf>,
    /// The local sockets of HTTP, and who connects to each.
    #[cfg(feature = "services")]
    pub local: Vec<(UnixListener, LocalClients)>,
    /// The file of the machine's state for its next life, if there is one.
    pub state: Option<StateFile>,
    /// The inbox of the machine's inputs, with its sender and its receiver; bounded.
    pub inbox: (Sender<Input>, Receiver<Input>),
}

impl<C> HostContext<C> {
    /// Creates a context with an empty inbox.
    #[must_use]
    pub fn new(clock: Clock, metrics: Arc<Metrics>, client: Arc<C>, limits: Limits) -> Self {
        let (exec, inbox) = (Default::default(), run::inbox(INBOX));
        let (folder, keeper, state) = (None, None, None);
        Self {
            clock,
            metrics,
            client,
            limits,
            exec,
            folder,
            keeper,
            #[cfg(feature = "services")]
            local: Vec::new(),
            state,
            inbox,
        }
    }

    /// Returns a function that wakes the machine, from any thread. A full inbox wakes it anyway.
    pub fn waker(&self) -> impl Fn() + Send + use<C> {
        let sender = self.inbox.0.clone();
        move || drop(sender.try_send(Input::TICK))
    }
}

/// The sockets of a node, bound in advance, so that a port in use is found before the start is reported.
pub struct Sockets<L> {
    /// The listener for Motr's processes, if hax speaks the wire.
    pub motr: Option<L>,
    /// The maximum number of Motr's connections.
    pub motr_connections_max: usize,
    /// The listeners for HTTP; more may be added later.
    pub http: Receiver<L>,
    /// The access control of HTTP.
    pub access: Arc<HttpAccess>,
}

impl<L> Sockets<L> {
    /// Returns the sockets of a daemon without Motr's processes.
    #[must_use]
    pub fn of_http(http: Receiver<L>, access: Arc<HttpAccess>) -> Self {
        Self { motr: None, motr_connections_max: 0, http, access }
    }
}

/// Drives `machine` until it exits; the first signal stops it. With `sockets` it is served, and its last
/// writes are sent before this completes. Its gauges and its status are published.
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
        // A stopping daemon has a status text of its own.
        if words != told && !stopping {
            notify::status(words);
            told = words;
        }
        watchdog.pass(now, next)
    };
    host::<P, M::Fact>(context, signals, sockets, &mut step).await;
}

/// One step of a machine: handles an input and appends the resulting outputs.
type Step<'a, F> = &'a mut dyn FnMut(Now, Input, &mut Vec<Output<F>>) -> Next;

/// Hosts a machine until it exits. The machine is passed only as its step, so this function is compiled once
/// for all machines of the program.
async fn host<P: Platform, F: Report + 'static>(
    context: HostContext<P::Client>,
    signals: &Signals,
    sockets: Option<Sockets<P::Listener>>,
    step: Step<'_, F>,
) {
    #[cfg(feature = "services")]
    let local = context.local;
    let HostContext { clock, metrics, client, limits, exec, folder, keeper, state, inbox, .. } =
        context;
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
    #[cfg(feature = "services")]
    let local: Vec<_> =
        local.into_iter().filter_map(|(listener, of)| serve_local(&http, listener, of)).collect();
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
    let keeper = match Keeper::new(keeper, sender.clone()) {
        Ok(keeper) => keeper,
        Err(why) => return tracing::error!(target: "hax", %why, "no thread for the keeper"),
    };
    let (net, http, sender, fact) = (&net, &http, &sender, PhantomData);
    let mut host = Host { clock, metrics, net, consul, http, workers, keeper, state, sender, fact };
    or(run::run(&mut host, &inbox, step), or(stop, closed)).await;
    // The machine handles no more inputs; their senders must not wait.
    inbox.close();
    http.refuse_pending();
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
        #[cfg(feature = "services")]
        for (close, served) in local {
            close.close();
            within::<P, _>(RESPOND_WITHIN, served).await;
        }
    };
    let worked = zip(host.workers.shut_down(WORKERS_WITHIN), host.keeper.shut_down());
    zip(worked, zip(respond, net.shut_down(motr, FLUSH_WITHIN))).await;
}

/// Serves a local socket in a task of its own until it is closed.
#[cfg(feature = "services")]
fn serve_local<P: Platform>(
    http: &Http<P, Input>,
    listener: UnixListener,
    of: LocalClients,
) -> Option<(Sender<Infallible>, P::Task<()>)> {
    match P::local_listener(listener) {
        Ok(listener) => {
            let (close, closed) = async_channel::bounded::<Infallible>(1);
            Some((close, P::spawn(http.serve_local(listener, of, closed))))
        }
        Err(why) => {
            tracing::error!(target: "hax", %why, "a local socket is not served");
            None
        }
    }
}

/// Accepts connections in a task of its own until it is closed; then it returns the listener.
///
/// In the machine's task the listener would get its turn only with the machine, which is seldom on a busy
/// thread. And a listener that accepts many connections in one turn would keep the machine waiting.
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
    keeper: Keeper,
    state: Option<StateFile>,
    sender: &'a Sender<Input>,
    fact: PhantomData<F>,
}

impl<P: Platform, F> Host<'_, P, F> {
    /// Sends an input to the machine, once its inbox has room.
    fn send_input(&self, input: Option<Input>) {
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
        // A machine with more due work lets the sockets have their turn in between.
        P::yield_now().await;
        // A deadline that has passed needs no timer, whose resolution may be a millisecond.
        if at > self.clock.now().mono {
            P::sleep_until(self.clock.at(at)).await;
        }
    }

    fn execute(&mut self, output: Output<F>) {
        match output {
            Output::Net(command) => self.net.execute(command),
            Output::Consul(command) => self.consul.execute(command),
            Output::Spiel(call) => {
                // A machine with Motr's library sends its calls to the library itself.
                let reply = spiel::Reply { id: call.id, result: Err(NO_LIBRARY) };
                self.send_input(Some(Input::Spiel(reply)));
            }
            Output::Exec(command) => {
                let refused = self.workers.exec(command);
                self.send_input(refused);
            }
            Output::File(command) => {
                let failed = self.workers.file(command);
                self.send_input(failed);
            }
            Output::Fifo(response) => self.workers.fifo(response),
            Output::Keeper(command) => {
                let refused = self.keeper.execute(*command);
                self.send_input(refused);
            }
            Output::Http(response) => self.http.execute(*response),
            Output::HttpStream(command) => self.http.stream(command),
            Output::State(command) => {
                // This takes a microsecond, and must be done before anything that follows.
                self.state.iter_mut().for_each(|state| state.execute(&command));
            }
            Output::Fact(fact) => self.metrics.record(&fact),
        }
    }
}
