//! A load of HTTP posts over connections that are kept.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hax_benches::rig::clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Posts bodies that `make` makes, each another one, over `connections` for `time`; how many a
/// second are answered with 200.
pub(crate) async fn posts(
    to: SocketAddr,
    connections: u64,
    time: Duration,
    make: impl Fn(u64) -> String + Clone + 'static,
) -> anyhow::Result<f64> {
    let began = clock();
    let mut tasks = Vec::new();
    for connection in 0..connections {
        let make = make.clone();
        tasks.push(tokio::task::spawn_local(async move {
            let mut stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            let mut done = 0_u64;
            let mut answer = vec![0; 4096];
            while began.elapsed() < time {
                let body = make(done * connections + connection);
                let size = body.len();
                let head =
                    format!("POST / HTTP/1.1\r\nHost: {to}\r\nContent-Length: {size}\r\n\r\n");
                stream.write_all((head + &body).as_bytes()).await?;
                // The answers are short: they come in one piece.
                let n = stream.read(&mut answer).await.context("an answer")?;
                if !answer[..n].starts_with(b"HTTP/1.1 200") {
                    bail!("{}", String::from_utf8_lossy(&answer[..n]));
                }
                done += 1;
            }
            Ok(done)
        }));
    }
    let mut all = 0;
    for task in tasks {
        all += task.await??;
    }
    Ok(all as f64 / began.elapsed().as_secs_f64())
}
