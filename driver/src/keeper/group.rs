//! The grouping of an instance's processes. The group is a cgroup below the keeper's own, which no process
//! can leave. Without cgroups, the processes are found by their process group and a variable in their
//! environment.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use hax_core::keeper::answer::Held;
use hax_core::keeper::name::InstanceId;
use hax_core::keeper::process::Process;
use rustix::process::{Signal, kill_process_group};

use super::processes;

/// The parent of the keeper's cgroups, if the keeper can create any.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    /// The keeper's folder.
    keeper: PathBuf,
    /// The parent cgroup.
    base: Option<PathBuf>,
}

impl Groups {
    /// Uses no cgroups: the processes of the keeper of this folder are grouped by process groups.
    pub(super) fn none(keeper: &Path) -> Self {
        Self { keeper: keeper.to_owned(), base: None }
    }

    /// Creates a cgroup for the keeper of this folder, below the cgroup of this process. The error is the
    /// reason why that is impossible.
    pub(super) fn find(keeper: &Path) -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let missing = |what| io::Error::new(io::ErrorKind::NotFound, what);
        let root = mount_point(&mounts).ok_or_else(|| missing("no cgroup2 is mounted"))?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let own = own.ok_or_else(|| missing("this process is in no cgroup of version 2"))?;
        let own = root.join(own);
        let folder = fs::metadata(keeper)?;
        let base = own.join(format!("hax-keeper-{}-{}", folder.dev(), folder.ino()));
        make(&base)?;
        // A process that may create a cgroup may still be unable to move processes into it: that takes write
        // access to both files (cgroups(7)).
        for cgroup in [&own, &base] {
            OpenOptions::new().write(true).open(cgroup.join("cgroup.procs"))?;
        }
        Ok(Self { keeper: keeper.to_owned(), base: Some(base) })
    }

    pub(super) const fn held(&self) -> Held {
        if self.base.is_some() { Held::Cgroup } else { Held::Group }
    }

    /// Creates the group of an instance. Processes that are already in the cgroup count as the instance's,
    /// too.
    pub(super) fn create(&self, instance: &InstanceId) -> io::Result<Group> {
        let path = self.base.as_ref().map(|base| base.join(instance.as_str()));
        if let Some(path) = &path {
            make(path)?;
        }
        Ok(self.adopt(instance.clone(), path))
    }

    /// Returns the group of an adopted instance, with its cgroup if it has one. An earlier keeper started the
    /// instance.
    pub(super) fn adopt(&self, instance: InstanceId, path: Option<PathBuf>) -> Group {
        Group { keeper: self.keeper.clone(), instance, path }
    }

    /// Removes the keeper's cgroup when the keeper ends, unless instances are in it.
    pub(super) fn leave(&self) {
        if let Some(base) = &self.base {
            let _ = fs::remove_dir(base);
        }
    }

    /// Removes the cgroup of an ended instance, if it still exists.
    pub(super) fn remove(&self, instance: &InstanceId) {
        if let Some(base) = &self.base {
            remove_below(&base.join(instance.as_str()));
        }
    }
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Returns the mount point of cgroups version 2. Spaces in the path are written as `\040` (proc(5)).
fn mount_point(mounts: &str) -> Option<PathBuf> {
    let mut found = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (path, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then(|| path.replace("\\040", " ").into())
    });
    found.next()
}

/// The processes of one instance.
#[derive(Debug)]
pub(super) struct Group {
    keeper: PathBuf,
    instance: InstanceId,
    /// The path of the instance's cgroup.
    path: Option<PathBuf>,
}

impl Group {
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Opens the file to which a child writes to join the cgroup.
    pub(super) fn join(&self) -> io::Result<Option<OwnedFd>> {
        let Some(path) = &self.path else { return Ok(None) };
        let file = OpenOptions::new().write(true).open(path.join("cgroup.procs"))?;
        Ok(Some(file.into()))
    }

    /// Returns all living processes of the group.
    pub(super) fn members(&self) -> Vec<Process> {
        let Some(path) = &self.path else {
            return processes::marked(&self.keeper, &self.instance);
        };
        let mut pids = Vec::new();
        below(path, &mut pids);
        let stats = pids.into_iter().filter_map(processes::stat);
        stats.filter(|stat| !stat.is_zombie).map(|stat| stat.process).collect()
    }

    /// Sends a signal to all processes of the group. Processes that start meanwhile may miss it.
    pub(super) fn signal(&self, signal: Signal) {
        for member in self.members() {
            processes::signal(member, signal);
            if signal == Signal::TERM {
                // A stopped process handles no signal before it continues.
                processes::signal(member, Signal::CONT);
            }
        }
    }

    /// Kills all processes of the group. `leader` is the pid of the main process, if that pid cannot have
    /// been reused.
    pub(super) fn kill(&self, leader: Option<u32>) {
        if let Some(path) = &self.path {
            let killed = OpenOptions::new().write(true).open(path.join("cgroup.kill"));
            match killed.and_then(|mut file| file.write_all(b"1")) {
                Ok(()) => return,
                Err(why) => {
                    tracing::debug!(target: "hax", instance = %self.instance, %why, "cgroup.kill");
                }
            }
        } else if let Some(leader) = leader.and_then(processes::pid) {
            // The process group no longer exists if the leader was its last process.
            let _ = kill_process_group(leader, Signal::KILL);
        }
        for member in self.members() {
            processes::signal(member, Signal::KILL);
        }
    }

    /// Removes the empty cgroup. If that is not possible now, it is removed when its instance is forgotten.
    pub(super) fn remove(&self) {
        if let Some(path) = &self.path {
            remove_below(path);
        }
    }
}

/// Collects the processes of a cgroup and of the cgroups below it.
fn below(path: &Path, pids: &mut Vec<u32>) {
    let procs = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    pids.extend(procs.lines().filter_map(|pid| pid.parse::<u32>().ok()));
    for folder in folders(path) {
        below(&folder, pids);
    }
}

fn remove_below(path: &Path) {
    for folder in folders(path) {
        remove_below(&folder);
    }
    let _ = fs::remove_dir(path);
}

fn folders(path: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.filter(is_folder).map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_version_2_is_found_among_others() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
            cgroup2 /sys/fs/my\\040own cgroup2 rw,nosuid 0 0\n";
        assert_eq!(mount_point(mounts), Some("/sys/fs/my own".into()));
        assert_eq!(mount_point("proc /proc proc rw 0 0\n"), None);
    }
}
