//! `hax demo`, the program.

use std::process::Command;

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
