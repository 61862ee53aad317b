//! What the fuzzer of configuration files found worth keeping.

use std::fs;
use std::path::Path;

#[test]
fn config() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/config");
    let files = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    let files: Vec<_> = files.collect();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    let fails = |path: &&std::path::PathBuf| {
        let data = fs::read(path).unwrap();
        std::panic::catch_unwind(|| hax_driver::settings::fuzz(&data)).is_err()
    };
    let failed: Vec<_> = files.iter().filter(fails).collect();
    assert!(failed.is_empty(), "{failed:?}");
}
