//! A load of HTTP posts over persistent connections.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hax_benches::rig::clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The result of a load.
pub(crate) struct Load {
    /// Responses a second.
    pub(crate) rate: f64,
    pub(crate) p99: Duration,
}

/// Posts bodies of `make`, each different, over `connections` connections for `time`; each response must be
/// 200.
pub(crate) async fn posts(
    to: SocketAddr,
    connections: u64,
    time: Duration,
    make: impl Fn(u64) -> String + Clone + 'static,
) -> anyhow::Result<Load> {
    let began = clock();
    let mut tasks = Vec::new();
    for connection in 0..connections {
        let make = make.clone();
        tasks.push(tokio::task::spawn_local(async move {
            let mut stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            let mut all = Vec::new();
            let mut answer = vec![0; 4096];
            while began.elapsed() < time {
                let body = make(all.len() as u64 * connections + connection);
                let size = body.len();
                let head =
                    format!("POST / HTTP/1.1\r\nHost: {to}\r\nContent-Length: {size}\r\n\r\n");
                let sent = clock();
                stream.write_all((head + &body).as_bytes()).await?;
                // The responses are short, so each arrives in one read.
                let n = stream.read(&mut answer).await.context("an answer")?;
                if !answer[..n].starts_with(b"HTTP/1.1 200") {
                    bail!("{}", String::from_utf8_lossy(&answer[..n]));
                }
                all.push(sent.elapsed());
            }
            Ok(all)
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    let rate = all.len() as f64 / began.elapsed().as_secs_f64();
    all.sort_unstable();
    let p99 = all.get(all.len() * 99 / 100).copied().context("an answer at all")?;
    Ok(Load { rate, p99 })
}
