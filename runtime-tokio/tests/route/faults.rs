//! Tests of faults around the server: its handlers, its disk, its permissions. The name of each test states
//! the effect. The server responds meanwhile.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hax_core::route::request::Request;
use hax_driver::host::clock::Clock;

use crate::hax::HAX;
use crate::linux::Namespace;
use crate::router::{Router, said};

const NODE: &str = "-p linux -t 100 -r 192.0.2.0/24 -n 10.0.0.2";

/// Copies a program by another process. A process that another test starts meanwhile would inherit a file
/// open for writing, and a program with one cannot be executed (ETXTBSY).
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args([from, to]).status().unwrap();
    assert!(copied.success());
}

/// Creates a server and then replaces its program with this shell script, for the next handler.
fn with_handler(name: &str, script: &str) -> Router {
    let mut router = Router::new(name);
    let program = router.folder().join("hax");
    copy(HAX.as_ref(), &program);
    let command = router.command(&program, "route serve");
    router.serve_by(command);
    let (text, other) = (router.folder().join("text"), router.folder().join("other"));
    fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
    copy(&text, &other);
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(other, program).unwrap();
    router.ok(&format!("create_node -i 7 {NODE}"));
    router
}

#[test]
fn r21_a_handler_that_hangs_is_killed_and_the_server_answers_meanwhile() {
    let router = with_handler("hung", "trap '' TERM; sleep 600 & wait; wait");
    let clock = Clock::new();
    let began = clock.now().mono;
    let event = router.script("node_event -i 7 -e verify").spawn().unwrap();
    let mut slow = 0;
    for _ in 0..100 {
        let at = clock.now().mono;
        let ping = Request::Ping.encode();
        let within = Duration::from_secs(1);
        hax_driver::fifo::ask(&router.dir(), ping.as_bytes(), within).unwrap();
        slow += u32::from(clock.now().mono.since(at) > Duration::from_millis(100));
    }
    // On a busy machine some pings may wait for the processor.
    assert!(slow <= 10, "{slow} of 100 pings took more than 100 ms");
    let code = event.wait_with_output().unwrap().status.code();
    let took = clock.now().mono.since(began);
    assert_eq!(code, Some(7));
    // The handler's deadline, its grace period, and a margin for a busy machine.
    assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(15), "{took:?}");
    router.logs("took too long");
}

#[test]
fn r21_what_a_handler_may_say_is_bounded_and_none_of_it_is_believed() {
    for (name, script) in [
        ("garbage", "head -c 3000 /dev/urandom; exit 0"),
        ("megabytes", "head -c 20000000 /dev/zero; head -c 20000000 /dev/zero >&2; exit 0"),
        ("lie", r#"echo '{"outcome":"updated","detail":"x"}'; exit 1"#),
        ("half", r#"printf '{"outcome":"upda'; exit 0"#),
        ("dies", "kill -9 $$"),
        ("silent", "exit 0"),
    ] {
        let router = with_handler(name, script);
        let (code, text) = router.run("node_event -i 7 -e peerFail");
        assert_eq!(code, 7, "{name}: {text}");
        assert!(text.len() < 2_000, "{name}: {} bytes", text.len());
        router.ok("ha_api -c ping");
        router.ok("show_node -i 7");
    }
}

#[test]
fn r21_handlers_are_processes_and_end_with_their_server() {
    let mut router = with_handler("orphans", "echo $$ > $(dirname $0)/pid; exec sleep 600");
    let event = router.script("node_event -i 7 -e verify --no-wait").output().unwrap();
    assert!(event.status.success());
    let pid = loop {
        let text = fs::read_to_string(router.folder().join("pid")).unwrap_or_default();
        if let Ok(pid) = text.trim().parse::<u32>() {
            break pid;
        }
    };
    assert_ne!(pid, router.pid());
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    router.end(rustix::process::Signal::KILL);
    while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        std::thread::yield_now();
    }
}

/// A server that stands still does not end its handler, so the handler does it.
#[test]
fn r21_a_handler_ends_by_itself_in_time() {
    // Nobody answers here, and nobody refuses.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let job = serde_json::json!({
        "event": "peerFail", "response": "update", "provider": "consul", "mode": "secondary",
        "parameters": { "table": "edge", "route": "192.0.2.0/24", "nextHop": "10.0.0.9" },
    });
    let script = format!("printf '%s' '{job}' | {HAX} event-handler");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).env_clear().env("HAX_HANDLER_WITHIN", "300");
    command.env("HAX_CONSUL", format!("http://{}", silent.local_addr().unwrap()));
    let clock = Clock::new();
    let began = clock.now().mono;
    assert_eq!(said(&mut command), (1, String::new()));
    let took = clock.now().mono.since(began);
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
}

// ---- the disk -----------------------------------------------------------------------------------------

/// A file system of its own, mounted at a router's directory.
struct Mount(PathBuf);

impl Mount {
    fn new(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=0770");
        let mut mount = Command::new("mount");
        let (code, text) = said(mount.args(["-t", "tmpfs", "-o", &options, "none"]).arg(at));
        if code != 0 {
            println!("no mounts here: {text}");
            return None;
        }
        Some(Self(at.to_owned()))
    }

    fn read_only(&self, how: &str) {
        let mut mount = Command::new("mount");
        let (code, text) = said(mount.args(["-o", &format!("remount,{how}")]).arg(&self.0));
        assert_eq!(code, 0, "{text}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = said(Command::new("umount").arg("-l").arg(&self.0));
    }
}

#[test]
fn r19_a_full_disk_refuses_the_change_and_keeps_what_was_acknowledged() {
    let mut router = Router::new("full");
    let Some(_mount) = Mount::new(&router.dir(), "64k") else { return };
    router.serve();
    let table = "x".repeat(9_000);
    let create = |router: &Router, index: u16| {
        let line = format!("create_node -i {index} -p consul -r 192.0.2.0/24 -n 10.0.0.2 -t");
        said(router.script(&line).arg(&table))
    };
    let mut kept = 0;
    let (code, text) = loop {
        let (code, text) = create(&router, kept + 1);
        if code != 0 {
            break (code, text);
        }
        kept += 1;
    };
    assert!((1..10).contains(&kept), "{kept}");
    assert!(code == 3 && text.contains("cannot write"), "{code} {text}");
    router.ok("ha_api -c ping");
    assert_eq!(router.ok("show_node").lines().count(), usize::from(kept));
    // A deletion makes room, so it is carried out.
    router.ok("delete_node -i 1");
    router.end(rustix::process::Signal::KILL);
    router.serve();
    assert_eq!(router.ok("show_node").lines().count(), usize::from(kept) - 1);
}

#[test]
fn r19_a_read_only_folder_is_told() {
    let mut router = Router::new("read-only");
    let Some(mount) = Mount::new(&router.dir(), "1m") else { return };
    router.serve();
    router.ok(&format!("create_node -i 7 {NODE}"));
    mount.read_only("ro");
    let (code, text) = router.run(&format!("create_node -i 8 {NODE}"));
    assert!(code == 4 && text.contains("ead-only"), "{code} {text}");
    router.end(rustix::process::Signal::KILL);
    let (code, text) = said(&mut router.command(HAX, "route serve"));
    assert!(code == 3 && text.contains("ead-only"), "{code} {text}");
    mount.read_only("rw");
    router.serve();
    router.ok("show_node -i 7");
}

// ---- permissions and secrets --------------------------------------------------------------------------

#[test]
fn r15_a_verify_fails_where_writing_is_denied() {
    let Some(namespace) = Namespace::new("denied") else { return };
    let mut router = Router::new("denied");
    let serve = router.command(HAX, "route serve");
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace.name(), "setpriv", "--bounding-set=-net_admin"]);
    command.arg(serve.get_program()).args(serve.get_args());
    command.env("HAX_ROUTE_DIR", router.dir());
    router.serve_by(command);
    router.ok("create_node -i 1 -p linux -t 1000 -r 192.0.2.0/24 -n 10.0.0.2");
    for event in ["verify", "peerFail"] {
        let (code, text) = router.run(&format!("node_event -i 1 -e {event}"));
        assert_eq!(code, 7, "{event}: {text}");
        assert!(text.contains("writing the route") && text.contains("not permitted"), "{text}");
    }
    assert_eq!(namespace.gateways("192.0.2.0/24", 1000), ["10.0.0.1"]);
}

#[test]
fn a_secret_is_in_no_file_no_line_and_no_answer() {
    const SECRET: &str = "s3cret-of-the-application";
    let mut router = Router::new("secret");
    let mut command =
        router.command(HAX, "route serve --consul http://127.0.0.1:1 --log-level trace");
    command.env("APP_KEY", SECRET).env("CONSUL_HTTP_TOKEN", SECRET);
    command.env("AWS_SECRET_ACCESS_KEY", SECRET);
    router.serve_by(command);
    router.ok("create_node -i 1 -p azure -t t -n 10.0.0.2 -g g -a app -d tenant -k env:APP_KEY");
    router.ok("create_node -i 2 -p consul -t t -r 192.0.2.0/24 -n 10.0.0.2 -group edge");
    router.ok("create_node -i 3 -p consul -t t -r 192.0.2.0/24 -n 10.0.0.2");
    let mut texts: Vec<String> =
        (1..=3).map(|index| router.run(&format!("node_event -i {index} -e verify")).1).collect();
    texts.push(router.run(&format!("set_params -i 1 -k {SECRET}")).1);
    texts.push(router.ok("show_node"));
    texts.push(said(&mut router.command(HAX, "route status --json")).1);
    texts.push(router.said());
    for entry in fs::read_dir(router.dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            texts.push(String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned());
        }
    }
    assert!(texts.iter().any(|text| text.contains("env:APP_KEY")), "the file is among them");
    for text in texts {
        assert!(!text.contains(SECRET), "{text}");
    }
}
