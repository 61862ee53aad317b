//! The program `hax demo`.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

#[test]
fn the_show_meets_all_expectations() {
    let output = Command::new(env!("CARGO_BIN_EXE_hax")).arg("demo").output().unwrap();
    let (out, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{error}");
    for part in ["has its entrypoint", "hears ios is", "expectations met"] {
        assert!(out.contains(part), "{part}: {out}\n{error}");
    }
}

#[test]
fn r01_the_show_of_routers_meets_all_expectations() {
    let output = Command::new(env!("CARGO_BIN_EXE_hax")).args(["demo", "route"]).output().unwrap();
    let (out, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{error}");
    for part in [
        "goes by router-b",
        "goes by router-a again: 0 packets lost",
        "denied",
        "exit code Some(7)",
    ] {
        assert!(out.contains(part), "{part}: {out}\n{error}");
    }
}

/// Returns the namespaces of demos that are there now.
fn namespaces() -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("hax-lab-")).collect()
}

#[test]
fn r01_the_show_of_routers_in_namespaces_moves_real_routes_and_loses_no_pings_when_asked() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_hax"));
    demo.args(["demo", "route", "--netns"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let demo = demo.spawn().unwrap();
    let of_it = format!("hax-lab-{}-", demo.id());
    let output = demo.wait_with_output().unwrap();
    let (out, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(namespaces().iter().all(|name| !name.starts_with(&of_it)), "they are removed");
    if error.contains("need root") || error.contains("network namespace") {
        assert_eq!(output.status.code(), Some(1), "{error}");
        eprintln!("no network namespaces here: {error}");
        return;
    }
    assert!(output.status.success(), "{out}\n{error}");
    for part in ["by router-a again: 0 pings lost", "goes by router-b: 0 pings lost"] {
        assert!(out.contains(part), "{part}: {out}\n{error}");
    }
}

#[test]
fn the_show_in_namespaces_says_what_it_lacks() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_hax"));
    let output = demo.args(["demo", "route", "--netns"]).env("PATH", "/nowhere").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("iproute2") || error.contains("need root"), "{error}");
    let output =
        Command::new(env!("CARGO_BIN_EXE_hax")).args(["demo", "--netns"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("show route"), "{error}");
}

/// The demo prints an example of ham, which works as printed.
#[test]
fn f47_the_example_of_ham_works_as_it_is_printed() {
    let hax = env!("CARGO_BIN_EXE_hax");
    let mut demo = Command::new(hax);
    demo.args(["demo", "--for", "60s"]).stdout(Stdio::piped());
    let mut demo = demo.spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map_while(Result::ok);
    let example = lines.find(|line| line.trim().starts_with("hax ham "));
    let played = example.map(|line| {
        let line = line.trim().replacen("hax", hax, 1);
        Command::new("sh").args(["-c", &line]).output().unwrap()
    });
    demo.kill().unwrap();
    demo.wait().unwrap();
    let played = played.expect("an example");
    let said = String::from_utf8_lossy(&played.stdout);
    assert!(played.status.success(), "{said}{}", String::from_utf8_lossy(&played.stderr));
    for part in ["entrypoint", "link-up", "delivered"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn the_show_of_services_survives_what_it_does_to_itself() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_hax"));
    let output = demo.args(["demo", "services"]).output().unwrap();
    let (out, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{error}");
    for part in
        ["it runs again as process", "has noticed nothing", "nothing is left", "expectations met"]
    {
        assert!(out.contains(part), "{part}: {out}\n{error}");
    }
}
