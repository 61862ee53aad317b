//! The demos, over real sockets. One has three Motr processes, one hax and a Consul; one has two routers and a
//! client; and one has three nodes with a service. Each takes some seconds.

pub mod api;
pub mod cast;
pub mod double;
#[cfg(feature = "route")]
pub mod lab;
#[cfg(feature = "route")]
mod netns;
mod plot;
#[cfg(feature = "route")]
mod route;
#[cfg(feature = "services")]
mod services;
pub mod setting;
mod show;

use anyhow::Context as _;
use futures_lite::future::or;
use hax_driver::commands::cli::{DemoArgs, DemoShow};
use hax_driver::daemon;
use hax_driver::exit::Exit;
use hax_driver::host::clock::Clock;
use hax_driver::host::signals::Signals;
use hax_driver::settings::Settings;
use hax_driver::settings::flags::Flags;
use hax_driver::settings::url::ConsulUrl;
use tokio::net::TcpListener;

use crate::{Tokio, signals};

use api::Api;
use setting::Setting;
use show::Show;

/// Runs the demo. It succeeds if all expectations are met.
pub async fn run(args: &DemoArgs) -> anyhow::Result<Exit> {
    let clock = Clock::new();
    let signals = signals::install(false)?;
    let interrupted = async {
        signals.stop().await;
        Ok(Exit::Interrupted)
    };
    let show = async {
        let Some(url) = &args.consul else {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let consul = Api::new(format!("http://{}", listener.local_addr()?));
            let double = async {
                double::serve(listener, "ssu1", clock).await;
                anyhow::bail!("the built-in Consul ended")
            };
            return or(play(args, clock, consul, "built in"), double).await;
        };
        if !matches!(url, ConsulUrl::Http(_)) {
            anyhow::bail!("the demo speaks plain HTTP with Consul: give --consul http://HOST:PORT");
        }
        let consul = Api::new(url.to_string());
        if !args.force {
            setting::refuse_used(&consul).await?;
        }
        play(args, clock, consul, "yours").await
    };
    match args.show {
        #[cfg(feature = "route")]
        DemoShow::Bridge if args.netns => {
            anyhow::bail!("--netns is of use with the show route only")
        }
        DemoShow::Bridge => or(interrupted, show).await,
        #[cfg(feature = "route")]
        DemoShow::Route => or(interrupted, run_route(args, clock)).await,
        #[cfg(feature = "services")]
        DemoShow::Services => or(interrupted, run_services(args, clock)).await,
    }
}

/// Runs the demo of three nodes with a service, with a Consul of its own.
#[cfg(feature = "services")]
async fn run_services(args: &DemoArgs, clock: Clock) -> anyhow::Result<Exit> {
    if args.consul.is_some() || args.keep.is_some() {
        anyhow::bail!("--consul and --for are of use with the show bridge only");
    }
    let mut agents = Vec::new();
    for node in services::NODES {
        agents.push((TcpListener::bind("127.0.0.1:0").await?, node));
    }
    let urls = agents.iter().map(|(listener, _)| Ok(format!("http://{}", listener.local_addr()?)));
    let urls = urls.collect::<anyhow::Result<Vec<String>>>()?;
    let double = async {
        double::serve_agents(agents, clock).await;
        anyhow::bail!("the built-in Consul ended")
    };
    or(services::play(&urls, clock), double).await
}

/// Runs the demo of two routers and a route table, with a Consul of its own.
#[cfg(feature = "route")]
async fn run_route(args: &DemoArgs, clock: Clock) -> anyhow::Result<Exit> {
    if args.consul.is_some() || args.keep.is_some() {
        anyhow::bail!("--consul and --for are of use with the show bridge only");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let consul = Api::new(format!("http://{}", listener.local_addr()?));
    let double = async {
        double::serve(listener, "node", clock).await;
        anyhow::bail!("the built-in Consul ended")
    };
    if args.netns {
        return or(netns::play(&consul, clock), double).await;
    }
    or(route::play(&consul, clock), double).await
}

async fn play(args: &DemoArgs, clock: Clock, consul: Api, whose: &str) -> anyhow::Result<Exit> {
    let setting = Setting::load(&consul).await.context("loading the configuration")?;
    let flags = Flags {
        consul: Some(consul.base().parse()?),
        node: Some(setting.node.clone()),
        no_elect: Some(true),
        ..Flags::default()
    };
    let settings = Settings::load(None, flags, |_| None)?;
    let (stop, signals) = Signals::channel();
    let mut hax = std::pin::pin!(daemon::run::<Tokio>(&settings, &signals));
    let (stage, lines) = cast::stage();
    let mut show = Show::new(clock, lines, setting.roles.clone());
    show.tell("consul", format_args!("{} ({whose}): {}", consul.base(), setting.summary));
    let keep = args.keep.map(|time| time.0);
    let plot = plot::play(&mut show, &setting, &consul, &stage, keep);
    let ended = async { Err(hax.as_mut().await) };
    let played = async { Ok(plot.await) };
    match or(ended, played).await {
        Err(ended) => anyhow::bail!("hax has ended in the middle of the show: {:?}", ended?),
        Ok(played) => played?,
    }
    // The hax of the demo stops like any other.
    stop.end();
    let stopped = hax.await?;
    show.check(stopped == Exit::Clean, "hax stops cleanly")?;
    show.tell("hax", "has stopped");
    show.end();
    Ok(Exit::Clean)
}
