//! The commands of the program on tokio and hyper.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hax_core::base::time::{Next, Now};
use hax_core::consul::port::{Answer, Method, Unanswered};
use hax_core::node::{Input, Output};
use hax_driver::consul::{self, Address};
use hax_driver::host::platform::{self, Platform, Request, Sockets, Stage};
use hax_driver::host::signals::Signals;
use hax_driver::settings::consul::ConsulSettings;
use rustls::ClientConfig;

use crate::connect::Connector;
use crate::consul::Client;
use crate::host::Host;
use crate::net::Net;
use crate::{ask, signals};

/// tokio, on one thread: the machine is one, and its work is small beside its waiting.
pub struct Tokio;

impl Platform for Tokio {
    type Client = Client;
    type Net<I: Send + 'static> = Net<I>;
    type Listener = tokio::net::TcpListener;

    const HTTP_BODIES_MAX: usize = 64 << 20;

    fn block_on<T>(program: impl Future<Output = T>) -> io::Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let done = runtime.block_on(program);
        // A name that is still being looked up is not waited for.
        runtime.shutdown_background();
        Ok(done)
    }

    fn signals(reload: bool) -> io::Result<Signals> {
        signals::install(reload)
    }

    async fn sleep(time: Duration) {
        tokio::time::sleep(time).await;
    }

    async fn sleep_until(at: Instant) {
        tokio::time::sleep_until(at.into()).await;
    }

    async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }

    fn listener(listener: TcpListener) -> io::Result<Self::Listener> {
        tokio::net::TcpListener::from_std(listener)
    }

    async fn drive(
        stage: Stage<Client>,
        signals: &Signals,
        sockets: Option<Sockets<Self::Listener>>,
        machine: impl FnMut(Now, Input, &mut Vec<Output>) -> Next,
    ) {
        Host::new(stage).drive(signals, sockets, machine).await;
    }

    async fn ask(
        address: &Address,
        tls: Option<Arc<ClientConfig>>,
        request: Request<'_>,
    ) -> anyhow::Result<(u16, Bytes)> {
        let Request { authority, target, token, answer_max } = request;
        let connector = Connector::new(address.clone(), tls);
        let request = (hyper::Method::GET, target, Bytes::new());
        ask::ask(&connector, authority, token, request, answer_max).await
    }
}

impl platform::Client for Client {
    fn new(consul: &ConsulSettings) -> Result<Self, consul::Error> {
        Self::new(consul)
    }

    fn reload(&self) -> Vec<consul::Error> {
        self.reload()
    }

    fn trouble(&self) -> Option<String> {
        self.trouble()
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
        body_max: usize,
    ) -> Result<Answer, Unanswered> {
        self.send(method, target, body, body_max).await
    }
}
