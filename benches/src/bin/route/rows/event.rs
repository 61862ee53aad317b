//! `node_event` end to end: from the start of the script to its end. Each event writes the route.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hax_benches::rig::clock;
use hax_tokio::demo::lab::{Lab, THERE};
use serde_json::Value;

use crate::router::Router;
use crate::row::Row;
use crate::sample::{Sample, ms};
use crate::table::skipped;

pub(super) fn rows(hax: &Path, quick: bool) -> anyhow::Result<Vec<Row>> {
    let times = if quick { 10 } else { 300 };
    Ok(vec![linux(hax, times)?, stub(hax, times)?])
}

/// Measures the provider `linux` without a group. The ceiling is `ip route replace`, which is one program less
/// and reads nothing.
fn linux(hax: &Path, times: usize) -> anyhow::Result<Row> {
    let lab = match Lab::new() {
        Ok(lab) => lab,
        Err(why) => return Ok(skipped("node_event_linux", format!("{why:#}"))),
    };
    let router = Router::new(hax, &[])?;
    let namespace = lab.namespace("client");
    let (route, hops) = THERE;
    for (index, hop) in [(1, hops[0]), (2, hops[1])] {
        let node = format!("create_node -i {index} -p linux -t main -r {route} -n {hop}");
        router.ok(&format!("{node} -ns {namespace}"))?;
    }
    let mut bare = Sample::default();
    for nth in 0..times {
        let began = clock();
        lab.ip("client", &format!("route replace {route} via {}", hops[nth % 2]))?;
        bare.add(began.elapsed());
    }
    let mut took = events(&router, times)?;
    Ok(Row {
        name: "node_event_linux",
        value: ms(took.percentile(99)),
        unit: "ms",
        ceiling: Some(ms(bare.percentile(99))),
        target: "p99 ≤ 20 ms",
        ok: took.percentile(99) <= Duration::from_millis(20),
        more: format!("{}; ceiling: `ip route replace`, {}", took.text(), bare.text()),
        ..Row::default()
    })
}

/// Tells of events that move the route to and fro. They take turns between two nodes of one route.
fn events(router: &Router, times: usize) -> anyhow::Result<Sample> {
    let mut took = Sample::default();
    for nth in 0..times {
        let line = format!("node_event -i {} -e peerFail", 1 + (nth + 1) % 2);
        let began = clock();
        router.ok(&line)?;
        took.add(began.elapsed());
    }
    Ok(took)
}

/// Measures the provider `consul` against a stub that answers at once. The ceiling is the start of a program.
fn stub(hax: &Path, times: usize) -> anyhow::Result<Row> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at = format!("http://{}", listener.local_addr()?);
    // The thread ends with this program.
    std::thread::spawn(move || answer(&listener));
    let router = Router::new(hax, &["--consul", &at])?;
    for index in [1, 2] {
        let node = "-p consul -t edge -r 192.0.2.0/24";
        router.ok(&format!("create_node -i {index} {node} -n 10.0.0.{index}"))?;
    }
    let mut bare = Sample::default();
    for _ in 0..times {
        let began = clock();
        anyhow::ensure!(Command::new("true").status()?.success(), "true is false");
        bare.add(began.elapsed());
    }
    let mut took = events(&router, times)?;
    Ok(Row {
        name: "node_event_stub",
        value: ms(took.percentile(99)),
        unit: "ms",
        ceiling: Some(ms(bare.percentile(99))),
        consul_requests: 3 * times as u64,
        target: "p99 ≤ 5 ms",
        ok: took.percentile(99) <= Duration::from_millis(5),
        more: format!("{}; ceiling: the program `true`, {}", took.text(), bare.text()),
        ..Row::default()
    })
}

/// Answers reads of a key with the last written value, and writes with success.
fn answer(listener: &TcpListener) {
    let value = Arc::new(Mutex::new(STANDARD.encode(r#"{"v":1,"nextHop":"10.0.0.1"}"#)));
    for stream in listener.incoming().map_while(Result::ok) {
        let value = Arc::clone(&value);
        // A client that goes away ends its thread.
        std::thread::spawn(move || drop(serve(stream, &value)));
    }
}

fn serve(mut stream: TcpStream, value: &Mutex<String>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut from = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = Vec::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, number)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = number.trim().parse().unwrap_or(0);
            }
            head.push(line);
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        let is_write = head.first().is_some_and(|line| line.contains("/v1/txn"));
        let mut value = value.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let text = if is_write {
            let ops: Value = serde_json::from_slice(&body).unwrap_or_default();
            let written = ops[0]["KV"]["Value"].as_str().unwrap_or_default();
            written.clone_into(&mut value);
            r#"{"Results":[]}"#.to_owned()
        } else {
            format!(r#"[{{"Key":"k","Value":"{value}","ModifyIndex":7,"Flags":0}}]"#)
        };
        drop(value);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Consul-Index: 7";
        let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        stream.write_all(answer.as_bytes())?;
    }
}
