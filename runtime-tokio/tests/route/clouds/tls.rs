//! The way to a cloud: TLS with certificate authorities, and a proxy.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::arm::TOKEN;
use super::http::{Answer, Server};
use super::{detail, handler};
use crate::certs::{Authority, directory};

/// Starts a Resource Manager with TLS that knows no table, and the authority of its certificate.
fn server(name: &str) -> (Server, String) {
    let dir = directory();
    let authority = Authority::new(&dir, name);
    let (cert, key) = authority.issue("server", &["127.0.0.1", "localhost"]);
    let tls = hax_driver::tls::server(&cert, &key).unwrap();
    let server = Server::start_tls(tls, |asked| match asked.header("authorization") {
        given if given == format!("Bearer {TOKEN}") => Answer::new(404, "reached"),
        _ => Answer::new(401, ""),
    });
    (server, authority.cert.to_str().unwrap().to_owned())
}

fn job() -> Value {
    json!({
        "event": "peerFail", "response": "update", "provider": "azure", "mode": "secondary",
        "parameters": { "routeTableName": "t", "nextHop": "10.0.0.2", "subscriptionId": "s",
            "resourceGroup": "g" },
        "token": { "value": TOKEN, "expires": u64::MAX },
        "within_ms": 5_000,
    })
}

#[test]
fn a_cloud_is_reached_by_tls_and_only_if_its_authority_is_trusted() {
    let (server, authority) = server("cloud");
    let url = format!("https://{}", server.authority());
    let (result, _) =
        handler(&job(), &[("HAX_AZURE_URL", &url), ("HAX_CLOUD_CA_FILE", &authority)]);
    assert!(detail(&result).contains("status 404: reached"), "{result}");
    assert_eq!(server.asked().len(), 1);
    let other = Authority::new(&directory(), "other");
    let other = other.cert.to_str().unwrap();
    for env in [&[("HAX_CLOUD_CA_FILE", other)][..], &[]] {
        let env: Vec<_> = env.iter().copied().chain([("HAX_AZURE_URL", &*url)]).collect();
        let (result, _) = handler(&job(), &env);
        let why = detail(&result);
        assert!(why.contains("TLS: ") && !why.contains("attempt"), "{why}");
    }
    assert_eq!(server.asked().len(), 1, "nothing is sent before the certificate is checked");
    let env = [("HAX_AZURE_URL", &*url), ("HAX_CLOUD_CA_FILE", "/no/such/file")];
    assert!(detail(&handler(&job(), &env).0).contains("/no/such/file"));
}

/// A proxy of HTTP. It opens a way to the host that is asked for, and keeps what was asked.
fn proxy() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let log = Arc::clone(&log);
            std::thread::spawn(move || connect(stream, &log));
        }
    });
    (url, asked)
}

fn connect(stream: TcpStream, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = String::new();
    while !lines.ends_with("\r\n\r\n") {
        if reader.read_line(&mut lines).unwrap_or(0) == 0 {
            return;
        }
    }
    let line = lines.lines().next().unwrap().to_owned();
    log.lock().unwrap().push(line.clone());
    let mut target = TcpStream::connect(line.split(' ').nth(1).unwrap()).unwrap();
    let mut writer = stream;
    writer.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let mut up = target.try_clone().unwrap();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut reader, &mut up);
        let _ = up.shutdown(Shutdown::Both);
    });
    let _ = std::io::copy(&mut target, &mut writer);
    let _ = writer.shutdown(Shutdown::Both);
}

#[test]
fn a_cloud_is_reached_by_the_proxy_of_the_environment() {
    let (server, authority) = server("proxied");
    let (proxy, asked) = proxy();
    let url = format!("https://{}", server.authority());
    let all = [
        ("HAX_AZURE_URL", &*url),
        ("HAX_CLOUD_CA_FILE", &authority),
        ("HTTPS_PROXY", &proxy),
        ("NO_PROXY", "127.0.0.1"),
    ];
    let (result, _) = handler(&job(), &all[..3]);
    assert!(detail(&result).contains("status 404: reached"), "{result}");
    assert_eq!(*asked.lock().unwrap(), [format!("CONNECT {} HTTP/1.1", server.authority())]);
    let (result, _) = handler(&job(), &all);
    assert!(detail(&result).contains("status 404: reached"), "{result}");
    assert_eq!(asked.lock().unwrap().len(), 1, "NO_PROXY is honoured");
    let socks = [all[0], all[1], ("ALL_PROXY", "socks5://127.0.0.1:1")];
    let (result, _) = handler(&job(), &socks);
    assert!(detail(&result).contains("only proxies of HTTP"), "{result}");
}
