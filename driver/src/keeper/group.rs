//! What holds the processes of an instance together: a cgroup below the keeper's own, which none can leave; or,
//! where there is none, their process group and their mark in the environment.

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

/// Where the keeper makes cgroups, if it can.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    /// The keeper's folder.
    keeper: PathBuf,
    /// The cgroup in which it makes others.
    base: Option<PathBuf>,
}

impl Groups {
    /// None: processes of the keeper of this folder are held by their process groups.
    pub(super) fn none(keeper: &Path) -> Self {
        Self { keeper: keeper.to_owned(), base: None }
    }

    /// Below the cgroup of this process, in one for the keeper of this folder. The error says why there is none.
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
        // Whoever may make one may still not move processes into it, which takes both (cgroups(7)).
        for cgroup in [&own, &base] {
            OpenOptions::new().write(true).open(cgroup.join("cgroup.procs"))?;
        }
        Ok(Self { keeper: keeper.to_owned(), base: Some(base) })
    }

    pub(super) const fn held(&self) -> Held {
        if self.base.is_some() { Held::Cgroup } else { Held::Group }
    }

    /// Makes the group of an instance. What is in it from earlier is the instance's, too.
    pub(super) fn create(&self, instance: &InstanceId) -> io::Result<Group> {
        let path = self.base.as_ref().map(|base| base.join(instance.as_str()));
        if let Some(path) = &path {
            make(path)?;
        }
        Ok(self.adopt(instance.clone(), path))
    }

    /// The group of an instance that an earlier keeper has started: in this cgroup, if in any.
    pub(super) fn adopt(&self, instance: InstanceId, path: Option<PathBuf>) -> Group {
        Group { keeper: self.keeper.clone(), instance, path }
    }

    /// The keeper ends: its cgroup goes, unless instances are in it.
    pub(super) fn leave(&self) {
        if let Some(base) = &self.base {
            let _ = fs::remove_dir(base);
        }
    }

    /// Removes the cgroup of an instance that has ended, if it is there still.
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

/// Where cgroups of version 2 are mounted. Spaces in the path are written as `\040` (proc(5)).
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
    /// Its cgroup.
    path: Option<PathBuf>,
}

impl Group {
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What a child writes to in order to join.
    pub(super) fn join(&self) -> io::Result<Option<OwnedFd>> {
        let Some(path) = &self.path else { return Ok(None) };
        let file = OpenOptions::new().write(true).open(path.join("cgroup.procs"))?;
        Ok(Some(file.into()))
    }

    /// All its processes that live.
    pub(super) fn members(&self) -> Vec<Process> {
        let Some(path) = &self.path else {
            return processes::marked(&self.keeper, &self.instance);
        };
        let mut pids = Vec::new();
        below(path, &mut pids);
        let stats = pids.into_iter().filter_map(processes::stat);
        stats.filter(|stat| !stat.is_zombie).map(|stat| stat.process).collect()
    }

    /// Sends a signal to all of them. What they start meanwhile may miss it.
    pub(super) fn signal(&self, signal: Signal) {
        for member in self.members() {
            processes::signal(member, signal);
            if signal == Signal::TERM {
                // One that is stopped hears nothing before it goes on.
                processes::signal(member, Signal::CONT);
            }
        }
    }

    /// Kills all of them. `leader` is the main process, if its number is still its own.
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
            // It is gone if it has been the last one.
            let _ = kill_process_group(leader, Signal::KILL);
        }
        for member in self.members() {
            processes::signal(member, Signal::KILL);
        }
    }

    /// Nothing is in it any more. What cannot be removed now is when its instance is forgotten.
    pub(super) fn remove(&self) {
        if let Some(path) = &self.path {
            remove_below(path);
        }
    }
}

/// The processes of a cgroup and of those below it.
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
