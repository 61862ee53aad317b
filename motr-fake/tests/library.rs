//! The file is loaded as programs do, and aborts them as the real library would.
#![expect(unsafe_code, reason = "the library's functions are called as C would")]

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::ptr;

use motr_fake::{SOCKET, Stage, VERSION, library};
use motr_sys::{Error, Library};

const CHILD: &str = "MOTR_FAKE_TEST_CHILD";

fn open() -> Result<Library, Error> {
    // SAFETY: the fake has no initialisers, and the ABI.
    unsafe { Library::open(Some(&library())) }
}

/// Ends what it has begun a second time.
#[test]
fn what_the_library_aborts_on_aborts_the_program() {
    if std::env::var_os(CHILD).is_some() {
        let ha = open().unwrap().ha;
        let mut hi = ptr::null_mut();
        let options = c"disable-compatibility-check".as_ptr();
        // SAFETY: the contract, but for the second end.
        unsafe {
            let rc = (ha.init)(&raw mut hi, ptr::null(), ptr::null(), options, ptr::null());
            assert_eq!(rc, 0);
            (ha.fini)(hi);
            (ha.fini)(hi);
        }
        return;
    }
    let stage = Stage::new().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    let name = "what_the_library_aborts_on_aborts_the_program";
    child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").env(SOCKET, stage.socket());
    child.stdout(Stdio::null()).stderr(Stdio::piped());
    let child = child.spawn().unwrap();
    let _script = stage.script();
    let child = child.wait_with_output().unwrap();
    // SIGABRT.
    assert_eq!(child.status.signal(), Some(6), "{child:?}");
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(said.contains("Motr's library aborts: fini"), "{said}");
}

#[test]
fn another_version_is_not_taken() {
    if std::env::var_os(CHILD).is_some() {
        println!("{}", open().unwrap_err());
        return;
    }
    assert_eq!(open().unwrap().version(), "2.0.0-fake");
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "another_version_is_not_taken", "--nocapture"]);
    let child = child.env(CHILD, "1").env(VERSION, "3.1").output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(said.contains("is Motr 3.1") && said.contains("--libmotr"), "{said}");
}
