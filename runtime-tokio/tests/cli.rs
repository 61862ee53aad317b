//! The program as its users start it: flags, variables, files, exit codes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/hax.rs"]
mod program;

use std::path::PathBuf;
use std::process::{Command, Output};

use program::HAX;

fn hax(args: &[&str]) -> Command {
    let mut command = Command::new(HAX);
    command.args(args);
    // Only the variables of the test count.
    for (name, _) in std::env::vars() {
        if name.starts_with("HAX_") || name.starts_with("CONSUL_") || name.starts_with("HARE_") {
            command.env_remove(name);
        }
    }
    command
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn wrong_usage_is_exit_code_2_and_says_what_is_right() {
    for (args, hint) in [
        (&["run", "--fid", "4"][..], "0xCONTAINER:0xKEY"),
        (&["run", "--consul", "ftp://c:1"], "unix:///PATH"),
        (&["run", "--consul-cert", "/c.pem"], "together"),
        (&["run", "--drain", "5"], "500ms, 10s or 2m"),
        (&["run", "--http-connections-max", "0"], "--http-connections-max"),
        (&["run", "--consul-timeout", "0s"], "--consul-timeout"),
        (&["run", "--http-body-max", "0"], "expected a size"),
        (&["run", "--journal", "/j", "--consul-answer-max", "1GiB"], "where a journal is kept"),
        (&["run", "--nonsense"], "--nonsense"),
        (&["run", "--config", "/nonexistent/hax.toml"], "--config: cannot read"),
        (
            &["run", "--motr-endpoint", "inet:tcp:127.0.0.1@22001", "--libmotr", "/nonexistent.so"],
            "--motr-endpoint",
        ),
        (&["run", "--motr", "wire", "--motr-endpoint", "inet:tcp:127.0.0.1@22001"], "--motr auto"),
        (&["ham"], "--connect"),
        (&["frobnicate"], "frobnicate"),
    ] {
        let output = hax(args).output().unwrap();
        assert_eq!(code(&output), 2, "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(hint), "{args:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{args:?}");
    }
}

#[test]
fn an_error_of_the_file_shows_its_line() {
    let path = file("bad.toml", "node = \"a\"\n\nhtp = \"127.0.0.1:1\"\n");
    let output = hax(&["run", "--config", path.to_str().unwrap()]).output().unwrap();
    assert_eq!(code(&output), 2);
    let error = stderr(&output);
    for part in ["bad.toml", "line 3, column 1", "htp = ", "unknown field `htp`", "`http`"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_told_what_is_right() {
    for (line, hint) in [
        ("drain = 5", "expected a time with its unit: 500ms, 10s or 2m"),
        ("bq = false", "expected on or off"),
        ("http = 8008", "expected ADDRESS:PORT"),
        ("fid = 4", "0xCONTAINER:0xKEY"),
        ("log_level = \"loud\"", "`warn`"),
    ] {
        let path = file("type.toml", line);
        let output = hax(&["run", "--config", path.to_str().unwrap()]).output().unwrap();
        let error = stderr(&output);
        assert!(code(&output) == 2 && error.contains(hint), "{line}: {error}");
    }
    let path = file("number.toml", "http_body_max = 4194304\nlog_level = \"WARN\"\n");
    let args = ["run", "--check", "--config", path.to_str().unwrap()];
    let said = stdout(&hax(&args).output().unwrap());
    assert!(said.contains("http_body_max = \"4MiB\"\n"), "{said}");
    assert!(said.contains("log_level = \"warn\"\n"), "{said}");
}

#[test]
fn a_variable_is_called_by_its_name() {
    let output = hax(&["run", "--check"]).env("HAX_DRAIN", "abc").output().unwrap();
    let error = stderr(&output);
    assert!(code(&output) == 2 && error.contains("HAX_DRAIN"), "{error}");
    let output = hax(&["run", "--check"]).env("HAX_NO_ELEKT", "true").output().unwrap();
    assert!(stderr(&output).contains("HAX_NO_ELEKT has no effect"), "{}", stderr(&output));
    let output = hax(&["run", "--check"]).env("HAX_TEST_CONSUL", "/c").output().unwrap();
    assert_eq!((code(&output), stderr(&output)), (0, String::new()));
}

#[test]
fn the_flag_beats_the_variable_beats_the_file_beats_other_tools() {
    let path = file("good.toml", "node = \"file\"\nhttp = \"127.0.0.1:1\"\ndrain = \"7s\"\n");
    let check = |args: &[&str], env: &[(&str, &str)]| {
        let mut args = args.to_vec();
        args.extend(["--check", "--config", path.to_str().unwrap()]);
        args.insert(0, "run");
        let output = hax(&args).envs(env.iter().copied()).output().unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        stdout(&output)
    };
    let settings = check(&[], &[]);
    for line in ["node = \"file\"", "drain = \"7s\"", "consul = \"http://127.0.0.1:8500\""] {
        assert!(settings.contains(line), "{line}: {settings}");
    }
    let env = [
        ("HARE_HAX_NODE_NAME", "hare"),
        ("CONSUL_HTTP_ADDR", "10.0.0.1:1"),
        ("HAX_NO_ELECT", "true"),
    ];
    let settings = check(&[], &env);
    for line in ["node = \"file\"", "consul = \"http://10.0.0.1:1\"", "no_elect = true"] {
        assert!(settings.contains(line), "{line}: {settings}");
    }
    let env = [("HARE_HAX_NODE_NAME", "hare"), ("HAX_NODE", "own"), ("HAX_DRAIN", "1s")];
    let settings = check(&["--drain", "2s"], &env);
    for line in ["node = \"own\"", "drain = \"2s\""] {
        assert!(settings.contains(line), "{line}: {settings}");
    }
}

#[test]
fn help_documents_exit_codes_and_variables() {
    let output = hax(&["run", "--help"]).output().unwrap();
    let help = stdout(&output);
    for part in ["130", "cannot listen at an address", "HAX_MOTR_ENDPOINT", "CONSUL_HTTP_ADDR"] {
        assert!(help.contains(part), "{part}: {help}");
    }
    for command in ["status", "check"] {
        let help = stdout(&hax(&[command, "--help"]).output().unwrap());
        assert!(help.contains("--config") && help.contains("--consul-token-file"), "{help}");
        assert!(!help.contains("--drain"), "{help}");
        assert!(help.lines().count() < 120, "{}", help.lines().count());
    }
    let output = hax(&["--version"]).output().unwrap();
    assert_eq!((code(&output), stdout(&output).starts_with("hax")), (0, true));
}

#[test]
fn a_cause_is_said_once() {
    let empty = file("empty.pem", "");
    let args = ["run", "--consul", "https://127.0.0.1:1", "--consul-ca-file"];
    let output = hax(&args).arg(&empty).output().unwrap();
    let error = stderr(&output);
    assert_eq!(code(&output), 2, "{error}");
    assert_eq!(error.matches("empty.pem").count(), 1, "{error}");
}
