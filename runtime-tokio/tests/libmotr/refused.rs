//! Files that are no library, and libraries of the wrong kind.

use std::path::{Path, PathBuf};

use hax_core::base::fid::Fid;
use motr_fake::{VERSION, library};

use crate::fixture::{self, Fixture};
use crate::program::{Program, command};

const ENDPOINT: &str = "inet:tcp:127.0.0.1@22001";

/// Returns the error of a hax that cannot use this library, before it sends a request to Consul.
fn refused(library: &Path, version: &str) -> String {
    let library = library.to_str().unwrap();
    let mut run = command(&["run", "--motr-endpoint", ENDPOINT, "--libmotr", library]);
    let mut hax = Program::start({
        run.env(VERSION, version);
        run
    });
    let said = hax.says(&["ERROR", ENDPOINT]);
    assert_eq!(hax.code(), 2);
    said
}

#[test]
fn a_missing_library_says_what_helps() {
    let said = refused(Path::new("/nonexistent/libmotr.so.2"), "");
    for remedy in ["/nonexistent/libmotr.so.2", "cortx-motr", "--libmotr", "inet:stream:"] {
        assert!(said.contains(remedy), "{said}");
    }
}

#[test]
fn another_version_says_what_it_is() {
    let said = refused(&library(), "3.0.1");
    assert!(said.contains("is Motr 3.0.1") && said.contains("--libmotr"), "{said}");
}

/// The library is complete except for one changed byte of a name.
#[test]
fn a_library_without_one_of_the_functions_says_which() {
    let name = b"\0m0_halon_interface_disconnect\0";
    let mut bytes = std::fs::read(library()).unwrap();
    let places = bytes.windows(name.len()).enumerate().filter(|(_, window)| window == name);
    let places: Vec<usize> = places.map(|(at, _)| at + name.len() - 2).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at] = b'x');
    let file: PathBuf = env!("CARGO_TARGET_TMPDIR").into();
    let file = file.join(format!("libmotr-{}.so", std::process::id()));
    std::fs::write(&file, bytes).unwrap();
    let said = refused(&file, "2.0");
    std::fs::remove_file(&file).unwrap();
    assert!(said.contains("no function m0_halon_interface_disconnect"), "{said}");
}

#[test]
fn the_check_says_which_library_it_is() {
    let Some(fixture) = Fixture::new() else { return };
    let said = fixture.program("check", &[]).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(
        said.contains("Motr's library 2.0.0-fake is loaded, for inet:tcp:127.0.1.1@"),
        "{said}"
    );
}

#[test]
fn services_that_have_no_number_are_named_and_waited_for() {
    let Some(fixture) = Fixture::new() else { return };
    let key = "m0conf/nodes/ssu1/processes/0/services/rms";
    let target = format!("/v1/kv/{key}");
    assert_eq!(fixture.consul.request("DELETE", &target, b"").unwrap().status, 200);
    let said = fixture.program("check", &[]).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains(key) && said.contains("--fid"), "{said}");
    let hax = Program::start(fixture.program("run", &[]));
    hax.says(&["WARN", key]);
    assert_eq!(fixture.consul.request("PUT", &target, b"17").unwrap().status, 200);
    let (fids, _) = fixture.stage.script().started();
    assert_eq!(fids[1..], [Fid::service(0), Fid::service(17)].map(fixture::key));
}

#[test]
fn an_address_that_the_library_cannot_have_is_exit_code_3() {
    let Some(fixture) = Fixture::new() else { return };
    let mut hax = Program::start(fixture.program("run", &[]));
    fixture.stage.refuse(98);
    let said = hax.says(&["ERROR", "inet:tcp:127.0.1.1@22001"]);
    assert!(said.contains("errno 98") && said.contains("--motr-endpoint"), "{said}");
    assert_eq!(hax.code(), 3);
}
