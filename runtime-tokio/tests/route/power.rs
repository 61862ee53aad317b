//! Tests of losses of power on a real file system.
//!
//! The server's folder is an ext4 file system in an image file. What the server has written and not synced is
//! in the memory of the kernel only, so a copy of the image is the disk after a loss of power. The tests need
//! root and loop devices.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use hax_core::route::node::Index;
use hax_core::route::request::{Answer, Request};
use hax_core::route::scripts::{self, Action};
use hax_core::route::stored;
use rustix::process::{Pid, Signal, kill_process};

use crate::router::{Router, said};

/// The number of losses of power.
const LOSSES: usize = 15;

/// A file system in an image file, mounted at a folder.
struct Disk {
    at: PathBuf,
    image: PathBuf,
}

impl Disk {
    /// Creates an empty file system. Nothing is written to its image by itself for some minutes.
    fn new(image: &Path, at: &Path) -> Option<Self> {
        let size = said(Command::new("truncate").args(["-s", "16M"]).arg(image));
        assert_eq!(size.0, 0, "{}", size.1);
        let made = Command::new("mkfs.ext4").arg("-q").arg(image).output();
        if !made.is_ok_and(|output| output.status.success()) {
            println!("no mkfs.ext4 here");
            return None;
        }
        Self::mounted(image, at)
    }

    fn mounted(image: &Path, at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        let (code, text) = said(mount.args(["-o", "loop,commit=300"]).arg(image).arg(at));
        if code != 0 {
            println!("no loop devices here: {text}");
            return None;
        }
        Some(Self { at: at.into(), image: image.into() })
    }

    /// Returns the disk as it is after a loss of power now.
    fn after_power_loss(&self, folder: &Path) -> Self {
        let image = folder.join("copy.img");
        let copied = said(Command::new("cp").arg("--sparse=always").args([&self.image, &image]));
        assert_eq!(copied.0, 0, "{}", copied.1);
        Self::mounted(&image, &folder.join("copy")).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = said(Command::new("umount").arg("-l").arg(&self.at));
    }
}

/// Stops a process, and waits until every thread of it stands still. A system call is finished before.
fn freeze(pid: Pid) {
    kill_process(pid, Signal::STOP).unwrap();
    let runs = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap();
        tasks.filter_map(Result::ok).any(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('T'))
        })
    };
    while runs() {
        std::thread::yield_now();
    }
}

/// Sends the request of a script. Returns whether the server has acknowledged it.
fn asks(router: &Router, line: &str) -> bool {
    let (name, words) = line.split_once(' ').unwrap();
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let Ok(Action::Ask(request)) = scripts::named(name).unwrap().parse(&words) else {
        panic!("{line}")
    };
    let within = Duration::from_secs(60);
    let answer = hax_driver::fifo::ask(&router.dir(), request.encode().as_bytes(), within);
    answer.is_ok_and(|answer| {
        let answer: Answer = serde_json::from_slice(&answer).unwrap();
        answer.exit == 0
    })
}

/// Changes nodes until the server does not answer. `acknowledged` has the last acknowledged next hop of each
/// node, and the next one while it is asked for.
fn change(router: &Router, first: u16, acknowledged: &Mutex<BTreeMap<u16, [u32; 2]>>) {
    for n in 1.. {
        for index in first..first + 3 {
            let last = acknowledged.lock().unwrap().get(&index).map_or(0, |[last, _]| *last);
            acknowledged.lock().unwrap().insert(index, [last, n]);
            let line = format!(
                "create_node -i {index} -p consul -t t -r 192.0.2.0/24 -n 10.0.{}.{}",
                n / 256,
                n % 256
            );
            if !asks(router, &line) {
                return;
            }
            acknowledged.lock().unwrap().insert(index, [n, n]);
        }
    }
}

#[test]
fn r19_no_acknowledged_change_is_lost_with_the_power() {
    let mut router = Router::new("power");
    let image = router.folder().join("disk.img");
    let Some(disk) = Disk::new(&image, &router.dir()) else { return };
    router.serve();
    let pid = Pid::from_raw(router.pid().cast_signed()).unwrap();
    let acknowledged = Mutex::new(BTreeMap::new());
    let mut seen = 0;
    std::thread::scope(|scope| {
        for first in [1, 11, 21] {
            let (router, acknowledged) = (&router, &acknowledged);
            scope.spawn(move || change(router, first, acknowledged));
        }
        for loss in 0..LOSSES {
            // The clients come on between two losses.
            let asked = || -> u32 { acknowledged.lock().unwrap().values().map(|[n, _]| n).sum() };
            let before = asked();
            while asked() < before + 7 {
                std::thread::yield_now();
            }
            freeze(pid);
            // What is not synced is lost: the test's own file shows it.
            fs::write(disk.at.join("unsynced"), "x").unwrap();
            let known = acknowledged.lock().unwrap().clone();
            let after = disk.after_power_loss(router.folder());
            let left = fs::read(after.at.join("unsynced")).unwrap_or_default();
            assert!(left.is_empty(), "this disk keeps what is not synced");
            let file = fs::read(after.at.join("nodes.json")).unwrap();
            let table = stored::read(&file).unwrap_or_else(|why| panic!("loss {loss}: {why}"));
            for (index, [last, next]) in &known {
                let node = table.find(Index::new(*index).unwrap());
                let hop = node.and_then(|node| node.parameters.get("nextHop"));
                let of = |n: &u32| format!("10.0.{}.{}", n / 256, n % 256);
                let is_kept = hop.is_some_and(|hop| **hop == *of(last) || **hop == *of(next));
                assert!(is_kept || *last == 0, "loss {loss}: node {index}: {hop:?}, not {last}");
                seen += usize::from(*last > 0);
            }
            drop(after);
            fs::remove_file(disk.at.join("unsynced")).unwrap();
            kill_process(pid, Signal::CONT).unwrap();
        }
        kill_process(pid, Signal::KILL).unwrap();
    });
    assert!(seen > LOSSES, "{seen} acknowledged changes");
    router.ended();
    // A server starts with what a loss of power has left.
    drop(disk);
    let after = Disk::mounted(&image, &router.dir()).unwrap();
    router.serve();
    let nodes = router.ok("show_node").lines().count();
    assert!(nodes >= 9, "{nodes}");
    router.end(Signal::TERM);
    drop(after);
    let ping = Request::Ping.encode();
    assert!(hax_driver::fifo::ask(&router.dir(), ping.as_bytes(), Duration::from_secs(1)).is_err());
}
