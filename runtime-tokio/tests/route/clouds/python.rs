//! The Python programs that cloud routes are held against: moto, and the SDKs of the vendors.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

/// Returns the folder that `scripts/get-clouds` fills: `HAX_TEST_CLOUDS`, or its default.
fn folder() -> Result<PathBuf, String> {
    let found = match std::env::var_os("HAX_TEST_CLOUDS") {
        Some(path) => PathBuf::from(path),
        None => {
            // The tests are in DIR/debug/deps, below the target folder.
            let program = std::env::current_exe().map_err(|why| why.to_string())?;
            let target = program.ancestors().nth(3).ok_or("no target folder")?;
            target.join("clouds")
        }
    };
    if found.join("complete").is_file() {
        return Ok(found);
    }
    let at = found.display();
    Err(format!("no Python environment at {at}: run scripts/get-clouds, or set HAX_TEST_CLOUDS"))
}

/// Returns whether the tests against foreign programs can run. If not, it prints the reason; in CI it panics.
pub(crate) fn available() -> bool {
    match folder() {
        Ok(_) => true,
        Err(why) if std::env::var_os("CI").is_some() => panic!("{why}"),
        Err(why) => {
            println!("skipped: {why}");
            false
        }
    }
}

/// Returns the path of the discovery document of Compute Engine that Google's SDK brings along.
pub(crate) fn discovery() -> PathBuf {
    let lib = folder().unwrap().join("python/lib");
    let versions = std::fs::read_dir(&lib).unwrap();
    let below = "site-packages/googleapiclient/discovery_cache/documents/compute.v1.json";
    let found = versions.map(|entry| entry.unwrap().path().join(below)).find(|path| path.exists());
    found.expect("the SDK has the document")
}

/// A running program. It ends with its standard input.
#[derive(Debug)]
pub(crate) struct Python {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Python {
    /// Starts one of the programs beside this file.
    pub(crate) fn start(name: &str, args: &[&str]) -> Self {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime-tokio/tests/route/clouds");
        let mut command = Command::new(folder().unwrap().join("python/bin/python"));
        command.arg(script.join(name)).args(args).env_remove("PYTHONPATH");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output) }
    }

    /// Reads the next line that is JSON.
    pub(crate) fn read(&mut self) -> Value {
        loop {
            let mut line = String::new();
            let length = self.output.read_line(&mut line).unwrap();
            assert!(length > 0, "the program has ended");
            if let Ok(value) = serde_json::from_str(&line) {
                return value;
            }
        }
    }

    /// Writes a line, and reads the answer.
    pub(crate) fn ask(&mut self, line: &Value) -> Value {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
        self.read()
    }

    /// Waits for the end of the program. Returns whether it succeeded.
    pub(crate) fn ends(mut self) -> bool {
        self.input = None;
        self.child.wait().unwrap().success()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
