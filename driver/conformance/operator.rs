//! Actions of an operator, and attacks on the operator's tools: repeated signals, a full disk, wrong files, a
//! revoked token, floods of the log.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::daemon::double::consul;
use crate::daemon::{Hax, until};
use crate::fixture::{Fixture, request, stop};
use crate::script::{Act, Script};

fn file(name: &str, text: &str) -> PathBuf {
    let name = format!("operator-{name}-{}", std::process::id());
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn hax(args: &[&str]) -> Command {
    let mut command = Command::new(crate::hax::HAX);
    command.args(args).stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn lines(fixture: &Fixture, part: &str) -> Vec<String> {
    let log = fixture.hax.log();
    log.iter().map(ToString::to_string).filter(|line| line.contains(part)).collect()
}

#[test]
fn f40_a_flood_of_what_is_refused_leaves_a_log_that_can_be_read() {
    let mut fixture = Fixture::at_level("info");
    let before = fixture.hax.log().len();
    for n in 0..40 {
        let many: Vec<u8> =
            (0..25).flat_map(|m| request(&format!("GET /flood-{n}-{m}"), "", b"")).collect();
        fixture.exchange(many);
    }
    for _ in 0..100 {
        let mut peer = crate::fixture::Client::new(fixture.place.motr());
        peer.say([0; 4096]);
        peer.end();
        peer.rest();
    }
    // An unknown process that connects during the flood is logged.
    let mut stranger = fixture.place.ham(0x999);
    stranger.ask();
    until("the stranger is seen", || !fixture.hax.facts("StrangerRefused").is_empty());
    let metrics = fixture.place.ask("GET", "/metrics", b"").text();
    let counted = |line: &str| metrics.lines().any(|l| l == line);
    assert!(counted("hax_facts_total{fact=\"HttpRefused\",level=\"info\"} 1000"), "{metrics}");
    assert!(counted("hax_facts_total{fact=\"BadFrame\",level=\"warn\"} 100"), "{metrics}");
    assert_eq!(stop(&mut fixture.hax), 0);
    let log = fixture.hax.log();
    assert!(log.len() - before < 120, "{}: {log:#?}", log.len());
    let left = lines(&fixture, "more of the kind HttpRefused");
    assert_eq!(left.len(), 1, "{log:#?}");
    assert!(left[0].contains("more of the kind BadFrame") && left[0].contains("WARN"), "{left:?}");
    assert!((1..=40).contains(&fixture.hax.facts("BadFrame").len()));
}

#[test]
fn f40_others_words_make_no_line_of_their_own() {
    let mut fixture = Fixture::at_level("info");
    let evil = "\u{202e}evil\u{9b}31m";
    let body = format!("{{\"url\": \"http://x/\\n<0>\u{1b}[2J{evil}\"}}");
    let path = format!("/v1/events/subscribe/{evil}");
    for target in [path.as_str(), "/v1/events/subscribe", "/watcher/bq", "/"] {
        let length = format!("Content-Length: {}\r\n", body.len());
        fixture.exchange(request(&format!("POST {target}"), &length, &body));
    }
    stop(&mut fixture.hax);
    for line in fixture.hax.log() {
        // The log is parsed as JSON, so an injected line would fail here.
        let message = line["message"].as_str().unwrap();
        let bad = |c: char| c.is_control() || matches!(c, '\u{202e}' | '\u{2028}');
        assert!(!message.contains(bad), "{message:?}");
    }
}

#[test]
fn f48_a_stop_that_is_said_twice_in_a_breath_is_one() {
    let mut fixture = Fixture::new();
    let mut ham = fixture.place.ham(1);
    ham.entrypoint();
    fixture.hax.signal("TERM");
    fixture.hax.signal("TERM");
    fixture.hax.signal("INT");
    assert_eq!(fixture.hax.code(), 0);
    assert_eq!(fixture.hax.facts("Stopped").len(), 1);
}

#[test]
fn f47_what_cannot_be_printed_is_said_and_is_no_success() {
    let fixture = Fixture::new();
    let http = fixture.place.http().to_string();
    let consul = format!("http://{}", fixture.script.address);
    let status = ["status", "--consul", &consul, "--http", &http];
    let json = [&status[..], &["--json"]].concat();
    let check = ["check", "--consul", &consul, "--http", &http];
    for args in [
        &["--help"][..],
        &["run", "--help"],
        &["--version"],
        &["run", "--check"],
        &status,
        &json,
        &check,
    ] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = hax(args).stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", said(&output));
        let error = said(&output);
        assert!(error.contains("standard output: No space left"), "{args:?}: {error}");
        assert!(!error.contains("panicked"), "{args:?}: {error}");
    }
}

#[test]
fn f47_half_of_a_pair_and_a_demo_that_is_not_there_are_said() {
    let cert = file("cert", "");
    let args = ["status", "--http", "127.0.0.1:1", "--http-cert", cert.to_str().unwrap()];
    let output = hax(&args).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let error = said(&output);
    assert!(error.contains("--http-cert: its key is missing: give --http-key"), "{error}");
    let help = String::from_utf8(hax(&["--help"]).output().unwrap().stdout).unwrap();
    if !crate::hax::HAX.ends_with("hax-smol") {
        assert!(help.contains("demo"), "{help}");
        return;
    }
    assert!(!help.contains("demo"), "{help}");
    let output = hax(&["demo"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("hax-smol has no demo"), "{}", said(&output));
}

#[test]
fn f44_all_that_is_wrong_with_settings_is_said_at_once() {
    let config =
        file("toml", "node = \"a\"\nhtp = 1\nfid = 4\nconsul_token_file = \"/nonexistent/t\"\n");
    let args = ["run", "--check", "--config", config.to_str().unwrap(), "--http-key", "/k"];
    for args in [&args[..], &[&["check"], &args[2..]].concat()] {
        let output = hax(args).output().unwrap();
        let text = said(&output) + &String::from_utf8_lossy(&output.stdout);
        for part in [
            "line 2, column 1",
            "unknown field `htp`",
            "line 3, column 7",
            "0xCONTAINER:0xKEY",
            "line 4: consul_token_file: cannot read /nonexistent/t",
            "--http-key: its certificate is missing",
        ] {
            assert!(text.contains(part), "{args:?}: no {part:?} in {text}");
        }
        assert_eq!(text.matches("htp = 1").count(), 1, "{text}");
    }
    // The same holds for flags and variables.
    let mut flags =
        hax(&["run", "--fid", "4", "--frobnicate", "--drain=5", "--http", "127.0.0.1:1"]);
    let output = flags.env("HAX_LINK_GRACE", "soon").output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for part in [
        "'4' for '--fid <FID>'",
        "'--frobnicate'",
        "'5' for '--drain <TIME>'",
        "'soon' for '--link-grace <TIME>'",
        "the variable HAX_LINK_GRACE",
    ] {
        assert_eq!(text.matches(part).count(), 1, "{part}: {text}");
    }
}

#[test]
fn f45_a_reload_takes_what_is_good_and_names_all_that_is_not() {
    let (http, consul) = (file("http-token", "one"), file("consul-token", "old"));
    let auth = file("consul-auth", "user:pass");
    let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let flags = [text(&http), text(&consul), text(&auth)];
    let [http_flag, consul_flag, auth_flag] = flags.each_ref().map(String::as_str);
    let fixture = Fixture::with(&[
        "--http-token-file",
        http_flag,
        "--consul-token-file",
        consul_flag,
        "--consul-auth-file",
        auth_flag,
    ]);
    std::fs::write(&http, "two").unwrap();
    std::fs::write(&consul, "two words").unwrap();
    std::fs::remove_file(&auth).unwrap();
    fixture.hax.signal("HUP");
    until("it is said", || !lines(&fixture, "not reloaded").is_empty());
    let line = lines(&fixture, "not reloaded");
    assert!(line[0].contains(consul_flag) && line[0].contains(auth_flag), "{line:?}");
    assert!(!line[0].contains(http_flag), "{line:?}");
    let post = |token: &str| {
        let head = format!("Authorization: Bearer {token}\r\nContent-Length: 2\r\n");
        fixture.exchange(request("POST /", &head, b"[]"))
    };
    assert!(post("two").contains(" 200 "), "the good one is used");
    assert!(post("one").contains(" 401 "));
    // This is the reverse case: the invalid file keeps its old value.
    std::fs::write(&http, "").unwrap();
    std::fs::write(&consul, "new").unwrap();
    std::fs::write(&auth, "user:pass").unwrap();
    fixture.hax.signal("HUP");
    until("it is said", || lines(&fixture, "not reloaded").len() == 2);
    assert!(post("two").contains(" 200 "));
    fixture.script.asked();
    let new = ("x-consul-token".to_owned(), "new".to_owned());
    until("Consul sees the new token", || {
        post("two");
        fixture.script.asked().iter().any(|asked| asked.headers.contains(&new))
    });
}

#[test]
fn f43_a_token_that_is_revoked_is_one_line_and_another_when_it_is_good_again() {
    let token = file("revoked", "s3cr3t");
    let fixture = Fixture::with(&["--consul-token-file", token.to_str().unwrap()]);
    let mut ham = fixture.place.ham(1);
    ham.entrypoint();
    let text = "HTTP/1.1 403 Forbidden\r\nContent-Length: 13\r\n\r\nACL not found";
    fixture.script.set(move |_| Act::Say(text.into()));
    ham.say("process started");
    until("the refusal is said", || !lines(&fixture, "refuses").is_empty());
    // Other requests are refused too: another process's event, and reads.
    let mut other = fixture.place.ham(2);
    other.ask();
    until("much is refused", || {
        let refused = |line: &serde_json::Value| line.to_string().contains("status 403");
        fixture.hax.log().iter().filter(|line| refused(line)).count() > 4
    });
    // Without the brace a time stamp may have the digits.
    let mut refusals = lines(&fixture, "(403 ");
    refusals.retain(|line| line.contains("WARN"));
    assert_eq!(refusals.len(), 1, "{refusals:#?}");
    assert!(refusals[0].contains(token.to_str().unwrap()), "{refusals:?}");
    assert!(!refusals[0].contains("s3cr3t"));
    fixture.script.set(|_| Act::Pass);
    ham.delivered();
    until("it is good again", || {
        !lines(&fixture, "Consul accepts hax's requests again").is_empty()
    });
    assert_eq!(lines(&fixture, "Consul accepts hax's requests again").len(), 1);
}

#[test]
fn f43_a_token_that_is_refused_from_the_start_is_one_line() {
    let token = file("never", "s3cr3t");
    let script = Script::new(consul());
    let text = "HTTP/1.1 403 Forbidden\r\nContent-Length: 13\r\n\r\nACL not found";
    script.set(move |_| Act::Say(text.into()));
    let consul = format!("http://{}", script.address);
    let flags = ["--consul", &consul, "--consul-token-file", token.to_str().unwrap()];
    let mut hax = Hax::start(&flags.map(str::to_owned));
    let mut asked = 0;
    until("it has asked again and again", || {
        asked += script.asked().len();
        asked > 4
    });
    hax.signal("TERM");
    assert_eq!(hax.code(), 0);
    let log = hax.log();
    let warned: Vec<_> = log.iter().filter(|line| line["level"] == "WARN").collect();
    assert_eq!(warned.len(), 1, "{warned:#?}");
    let line = warned[0].to_string();
    assert!(line.contains("refuses GET /v1/agent/self") && line.contains("never"), "{line}");
}

#[test]
fn f41_a_write_that_is_refused_names_the_key_and_the_token() {
    let token = file("narrow", "s3cr3t");
    let fixture = Fixture::with(&["--consul-token-file", token.to_str().unwrap()]);
    let mut ham = fixture.place.ham(1);
    ham.entrypoint();
    fixture.script.set(|asked| {
        let text = "{\"Results\":null,\"Errors\":[{\"OpIndex\":0,\"What\":\"Permission denied\"}]}";
        let head = format!("HTTP/1.1 409 Conflict\r\nContent-Length: {}\r\n\r\n", text.len());
        let refused = asked.target.starts_with("/v1/txn");
        if refused { Act::Say(format!("{head}{text}").into()) } else { Act::Pass }
    });
    ham.say("process started");
    until("the refusal is said", || !lines(&fixture, "refuses").is_empty());
    let line = lines(&fixture, "refuses").remove(0);
    for part in ["PUT /v1/txn of ", "0x7200000000000001:0x1", token.to_str().unwrap()] {
        assert!(line.contains(part), "{part}: {line}");
    }
    fixture.script.set(|_| Act::Pass);
    ham.delivered();
}
