//! `hax ham` over real sockets.

use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use async_channel::{Receiver, Sender};
use futures_lite::future::or;
use hax_core::base::time::{Instant, Now};
use hax_core::wire::{name, process};

use super::cli::HamArgs;
use crate::exit::Exit;
use crate::ham::command::Command;
use crate::ham::{Ham, Input, Output, PID};
use crate::host::clock::{self, Clock};
use crate::host::net::Net;
use crate::host::platform::Platform;
use crate::host::run::Runtime;
use crate::net::listen;
use crate::observe::facts;

/// The capacity of the inbox.
const INBOX: usize = 256;

/// The maximum number of connections from the peer.
const CONNECTIONS_MAX: usize = 64;

/// The time for the peer to close its side at the end.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// Executes the commands.
///
/// # Errors
///
/// The reason, with its exit code.
pub(super) async fn run<P: Platform>(args: &HamArgs) -> Result<Exit, (Exit, anyhow::Error)> {
    let usage = |why: anyhow::Error| (Exit::Usage, why);
    let commands = parse(&args.commands).map_err(usage)?;
    let connect = address("--connect", &args.connect).map_err(usage)?;
    let listen = address("--listen", &args.listen).map_err(usage)?;
    let listener = listen::endpoint(listen, "the address is that of --listen")
        .map_err(|why| (Exit::Listen, why.into()))?;
    let listener = P::listener(listener).map_err(|why| (Exit::Listen, why.into()))?;
    let signals = P::signals(false).map_err(|why| (Exit::Failure, why.into()))?;

    let (inbox, received) = crate::host::run::inbox(INBOX);
    let net = Net::<P, _>::new(inbox.clone(), Input::Net);
    let config = process::Config {
        fid: args.fid.0,
        listen,
        connect,
        pid: PID,
        git_rev: concat!("ham-", env!("CARGO_PKG_VERSION")).into(),
        generation: clock::wall().0,
        seed: clock::wall().0 ^ u64::from(std::process::id()),
    };
    let mut ham = Ham::new(config, args.timeout.0);
    let mut host: Host<'_, P> = Host { clock: Clock::new(), net: &net };
    let accepting = async { net.listen(&listener, CONNECTIONS_MAX).await };
    let refused = async { Err((Exit::Usage, feed(commands, inbox).await)) };
    let work = async {
        crate::host::run::run(&mut host, &received, |now, input, out| ham.handle(now, input, out))
            .await;
        Ok(ham.exit().unwrap_or(Exit::Failure))
    };
    let interrupted = async {
        signals.stop().await;
        Ok(Exit::Interrupted)
    };
    let exit = or(interrupted, or(refused, or(work, accepting))).await?;
    received.close();
    if exit == Exit::Clean {
        net.shut_down(Some(listener), FLUSH_WITHIN).await;
    }
    Ok(exit)
}

fn parse(commands: &[String]) -> anyhow::Result<Vec<Command>> {
    let parse = |command: &String| command.parse().with_context(|| format!("command {command:?}"));
    commands.iter().map(parse).collect()
}

fn address(flag: &str, endpoint: &str) -> anyhow::Result<SocketAddr> {
    name::parse(endpoint).with_context(|| format!("{flag} {endpoint}"))
}

/// Puts commands in the inbox, from the command line or else from standard input. It completes only with an
/// error of standard input.
async fn feed(commands: Vec<Command>, inbox: Sender<Input>) -> anyhow::Error {
    if commands.is_empty() {
        if let Ok(why) = read(inbox).recv().await {
            return why;
        }
    } else {
        for input in commands.into_iter().map(Input::Command).chain([Input::Close]) {
            // The send fails only if the messenger has ended already.
            let _ = inbox.send(input).await;
        }
    }
    std::future::pending().await
}

/// Reads standard input on a thread, since its reads block. The thread ends with the program.
fn read(inbox: Sender<Input>) -> Receiver<anyhow::Error> {
    let (say, wrong) = async_channel::bounded(1);
    std::thread::spawn(move || {
        if let Err(why) = read_lines(&inbox) {
            let _ = say.send_blocking(why);
        }
    });
    wrong
}

fn read_lines(inbox: &Sender<Input>) -> anyhow::Result<()> {
    for (number, line) in (1..).zip(std::io::stdin().lock().lines()) {
        let line = line.context("standard input")?;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let command = line.parse().with_context(|| format!("line {number}, {line:?}"))?;
        if inbox.send_blocking(Input::Command(command)).is_err() {
            return Ok(());
        }
    }
    // The send fails only if the messenger has ended already.
    let _ = inbox.send_blocking(Input::Close);
    Ok(())
}

/// The messenger's runtime.
struct Host<'a, P: Platform> {
    clock: Clock,
    net: &'a Net<P, Input>,
}

impl<P: Platform> Runtime for Host<'_, P> {
    type Input = Input;
    type Output = Output;

    fn now(&mut self) -> Now {
        self.clock.now()
    }

    async fn sleep_until(&self, at: Instant) {
        P::sleep_until(self.clock.at(at)).await;
    }

    fn execute(&mut self, output: Output) {
        match output {
            Output::Net(command) => self.net.execute(command),
            Output::Fact(fact) => facts::log(&fact),
            Output::Print(line) => {
                let mut stdout = std::io::stdout().lock();
                // The reader of the output may have closed it; the commands are executed nevertheless.
                let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
            }
        }
    }
}
