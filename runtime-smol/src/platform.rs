//! The commands of the program on smol.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use bytes::Bytes;
use hax_core::base::time::{Next, Now};
use hax_core::node::{Input, Output};
use hax_driver::consul::Address;
use hax_driver::host::platform::{Platform, Request, Stage};
use hax_driver::host::signals::Signals;
use rustls::ClientConfig;

use crate::consul::{self, Client};
use crate::host::{Host, Sockets};
use crate::net::Net;
use crate::{signals, tasks};

/// smol, on one thread; what blocks has threads of its own.
pub struct Smol;

impl Platform for Smol {
    type Client = Client;
    type Net<I: Send + 'static> = Net<I>;
    type Listener = Async<TcpListener>;

    // As much as a node with little memory can spare.
    const HTTP_BODIES_MAX: usize = 8 << 20;

    fn block_on<T>(program: impl Future<Output = T>) -> io::Result<T> {
        Ok(tasks::block_on(program))
    }

    fn signals(reload: bool) -> io::Result<Signals> {
        signals::install(reload)
    }

    async fn sleep(time: Duration) {
        Timer::after(time).await;
    }

    async fn sleep_until(at: Instant) {
        Timer::at(at).await;
    }

    async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        consul::lookup(host, port).await
    }

    fn listener(listener: TcpListener) -> io::Result<Self::Listener> {
        Async::new_nonblocking(listener)
    }

    async fn drive(
        stage: Stage<Client>,
        signals: &Signals,
        sockets: Option<Sockets>,
        machine: impl FnMut(Now, Input, &mut Vec<Output>) -> Next,
    ) {
        Host::new(stage).drive(signals, sockets, machine).await;
    }

    async fn ask(
        address: &Address,
        tls: Option<Arc<ClientConfig>>,
        request: Request<'_>,
    ) -> anyhow::Result<(u16, Bytes)> {
        consul::ask(address, tls, request).await
    }
}
