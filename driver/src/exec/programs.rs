//! The check of programs before they are run. Access to Consul or to an HTTP port must not give root's
//! rights. So a program that records or requests can name must lie in a folder that the administrator has
//! permitted, and no other user may be able to add or change a program there.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use hax_core::base::errno::Errno;
use hax_core::exec::{Origin, Refusal};
use rustix::process::geteuid;

/// The folders for programs named by records, requests and settings.
const FOLDERS: [&str; 2] = ["/usr/lib/hax", "/etc/hax"];

/// The maximum number of symbolic links in a path, as in Linux itself.
const LINKS: u32 = 40;

/// The permission bits for writing by the group and by others.
const WRITABLE: u32 = 0o022;

/// The sticky bit: only the owner of an entry may rename or remove it (as in `/tmp`).
const STICKY: u32 = 0o1000;

/// A reason why a program is not run.
#[derive(Debug, thiserror::Error)]
pub enum Distrust {
    /// The program has no absolute path.
    #[error("{0:?} is not the absolute path of a program")]
    Malformed(PathBuf),
    /// The program is in none of the permitted folders.
    #[error("{0:?} is in none of the folders for programs; --allow-exec adds one")]
    Elsewhere(PathBuf),
    /// Another user owns a part of the path.
    #[error("{0:?} belongs to user {1}, who could change what is run")]
    Owner(PathBuf, u32),
    /// Another user can write to a part of the path.
    #[error("{0:?} can be written to by others, who could change what is run (chmod go-w)")]
    Writable(PathBuf),
    /// The path leads to something other than a regular file.
    #[error("{0:?} is no file")]
    NoFile(PathBuf),
    /// A part of the path cannot be examined.
    #[error("{0:?}: {1}")]
    System(PathBuf, io::Error),
}

impl Distrust {
    /// Converts the reason into a refusal for the machine.
    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Self::Malformed(_) => Refusal::Malformed,
            Self::Elsewhere(_) => Refusal::Elsewhere,
            Self::Owner(..) | Self::Writable(_) => Refusal::Untrusted,
            Self::NoFile(_) => Refusal::Denied,
            Self::System(_, why) => refusal(why),
        }
    }
}

/// Converts the error of a system call into a refusal for the machine.
pub(super) fn refusal(why: &io::Error) -> Refusal {
    match why.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Refusal::Missing,
        io::ErrorKind::PermissionDenied => Refusal::Denied,
        io::ErrorKind::InvalidInput => Refusal::Malformed,
        _ => Refusal::Failed(Errno(why.raw_os_error().unwrap_or_default())),
    }
}

/// The permitted programs; see the module.
#[derive(Clone, Debug)]
pub struct Programs {
    folders: Vec<PathBuf>,
    /// The trusted owners of files: root and the daemon's own user.
    owners: [u32; 2],
}

impl Programs {
    /// Permits hax's own folders and the paths in `allowed`. Each path is a folder or one program.
    #[must_use]
    pub fn new(allowed: impl IntoIterator<Item = PathBuf>) -> Self {
        let folders = FOLDERS.map(PathBuf::from).into_iter().chain(allowed).collect();
        Self { folders, owners: [0, geteuid().as_raw()] }
    }

    /// Resolves `path` and returns the file if it may be run.
    ///
    /// Root, or the user who runs the daemon, must own the file and every folder and link target on the way
    /// to it, and no other user may be able to write to any of them. If `origin` says that the path is
    /// configured, the program must also lie in one of the permitted folders by the path with which it is
    /// called. A link in such a folder may lead elsewhere.
    ///
    /// The result stays valid as long as no trusted user changes it: there is no race with other users.
    ///
    /// # Errors
    ///
    /// The reason why the program may not be run.
    pub fn find(&self, origin: Origin, path: &Path) -> Result<PathBuf, Distrust> {
        let malformed = || Distrust::Malformed(path.to_owned());
        let (Some(name), Some(folder)) = (path.file_name(), path.parent()) else {
            return Err(malformed());
        };
        if !path.is_absolute() {
            return Err(malformed());
        }
        if origin == Origin::Configured {
            let place = self.walk(folder)?.0.join(name);
            let is_allowed = |folder: &PathBuf| {
                self.walk(folder).is_ok_and(|(folder, _)| place.starts_with(folder))
            };
            if !self.folders.iter().any(is_allowed) {
                return Err(Distrust::Elsewhere(path.to_owned()));
            }
        }
        let (program, found) = self.walk(path)?;
        if found.is_file() { Ok(program) } else { Err(Distrust::NoFile(program)) }
    }

    /// Follows an absolute path as the kernel does, and checks each part of it.
    fn walk(&self, path: &Path) -> Result<(PathBuf, Metadata), Distrust> {
        let mut at = PathBuf::from("/");
        let mut found = self.look(&at)?;
        let mut left = parts(path);
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == ".." {
                at.pop();
                found = self.look(&at)?;
                continue;
            }
            let next = at.join(part);
            let entry = self.look(&next)?;
            // Other users may add entries here. These may be hard links to root's files, but not to root's
            // folders.
            if found.mode() & WRITABLE != 0 && !entry.is_dir() {
                return Err(Distrust::Writable(at));
            }
            if entry.is_symlink() {
                links += 1;
                let target = fs::read_link(&next);
                let target = target.map_err(|why| Distrust::System(next.clone(), why))?;
                if links > LINKS {
                    let why = io::Error::from(rustix::io::Errno::LOOP);
                    return Err(Distrust::System(next, why));
                }
                if target.is_absolute() {
                    at = PathBuf::from("/");
                    found = self.look(&at)?;
                }
                left.extend(parts(&target));
            } else {
                (at, found) = (next, entry);
            }
        }
        Ok((at, found))
    }

    /// Returns the metadata of a path, if no other user can change the file or replace it.
    fn look(&self, path: &Path) -> Result<Metadata, Distrust> {
        let found = fs::symlink_metadata(path);
        let found = found.map_err(|why| Distrust::System(path.to_owned(), why))?;
        // The owner of a link cannot change where it leads. Only the permissions of its folder matter.
        if found.is_symlink() {
            return Ok(found);
        }
        if !self.owners.contains(&found.uid()) {
            return Err(Distrust::Owner(path.to_owned(), found.uid()));
        }
        // If the file has an access control list, the group bits show the rights that it gives to others
        // (acl(5)).
        let sticky = found.is_dir() && found.mode() & STICKY != 0;
        if found.mode() & WRITABLE != 0 && !sticky {
            return Err(Distrust::Writable(path.to_owned()));
        }
        Ok(found)
    }
}

/// Returns the components of a path, names and `..` steps, in reverse order.
fn parts(path: &Path) -> Vec<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// A temporary folder of one test and its files.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let name = format!("hax-programs-{name}-{}", std::process::id());
            let place = Self(std::env::temp_dir().join(name));
            let _ = fs::remove_dir_all(&place.0);
            place.folder("");
            place
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        fn folder(&self, name: &str) {
            fs::create_dir_all(self.at(name)).unwrap();
            self.mode(name, 0o755);
        }

        fn program(&self, name: &str) {
            fs::write(self.at(name), "").unwrap();
            self.mode(name, 0o755);
        }

        fn mode(&self, name: &str, mode: u32) {
            fs::set_permissions(self.at(name), fs::Permissions::from_mode(mode)).unwrap();
        }

        /// Looks up the program `name` with `allowed` as the permitted folder.
        fn find(&self, allowed: &str, name: &str) -> Result<PathBuf, Refusal> {
            let programs = Programs::new([self.at(allowed)]);
            programs.find(Origin::Configured, &self.at(name)).map_err(|why| why.refusal())
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_program_in_an_allowed_folder_is_found() {
        let place = Place::new("found");
        place.folder("ok/below");
        place.program("ok/below/p");
        let found = fs::canonicalize(place.at("ok/below/p")).unwrap();
        assert_eq!(place.find("ok", "ok/below/p"), Ok(found.clone()));
        assert_eq!(place.find("ok", "ok/./below/../below/p"), Ok(found.clone()));
        // A single program may be permitted by its own path.
        assert_eq!(place.find("ok/below/p", "ok/below/p"), Ok(found));
    }

    #[test]
    fn what_is_elsewhere_is_run_only_where_hax_names_it_itself() {
        let place = Place::new("elsewhere");
        place.folder("ok");
        place.folder("okay");
        place.program("okay/p");
        for name in ["okay/p", "ok/../okay/p"] {
            assert_eq!(place.find("ok", name), Err(Refusal::Elsewhere), "{name}");
        }
        let programs = Programs::new([]);
        let sh = Path::new("/bin/sh");
        assert!(programs.find(Origin::Own, sh).is_ok());
        assert!(matches!(programs.find(Origin::Configured, sh), Err(Distrust::Elsewhere(_))));
    }

    #[test]
    fn a_link_in_an_allowed_folder_may_lead_out_of_it_but_not_back() {
        let place = Place::new("links");
        place.folder("ok");
        place.folder("out");
        place.program("out/p");
        symlink("../out/p", place.at("ok/link")).unwrap();
        symlink(place.at("ok/link"), place.at("ok/absolute")).unwrap();
        let found = fs::canonicalize(place.at("out/p")).unwrap();
        assert_eq!(place.find("ok", "ok/link"), Ok(found.clone()));
        assert_eq!(place.find("ok", "ok/absolute"), Ok(found));
        // A folder that is reached through a link counts as the folder that the link leads to.
        symlink("../out", place.at("ok/folder")).unwrap();
        assert_eq!(place.find("ok", "ok/folder/p"), Err(Refusal::Elsewhere));
        symlink("loop", place.at("ok/loop")).unwrap();
        assert_eq!(place.find("ok", "ok/loop"), Err(Refusal::Failed(Errno(40))));
    }

    #[test]
    fn what_others_can_write_to_is_not_trusted() {
        let place = Place::new("writable");
        place.folder("ok/mid/low");
        place.program("ok/mid/low/p");
        assert!(place.find("ok", "ok/mid/low/p").is_ok());
        for (name, was) in [("ok/mid/low/p", 0o755), ("ok/mid/low", 0o755), ("ok/mid", 0o755)] {
            for more in [0o020, 0o002] {
                place.mode(name, was | more);
                let found = place.find("ok", "ok/mid/low/p");
                assert_eq!(found, Err(Refusal::Untrusted), "{name} {more:o}");
                place.mode(name, was);
            }
        }
        // The target path of a link is checked, too.
        place.folder("open");
        symlink("../ok/mid/low/p", place.at("open/link")).unwrap();
        symlink("../open/link", place.at("ok/link")).unwrap();
        assert!(place.find("ok", "ok/link").is_ok());
        place.mode("open", 0o777);
        assert_eq!(place.find("ok", "ok/link"), Err(Refusal::Untrusted));
    }

    #[test]
    fn a_folder_in_which_all_may_only_add_is_passed_through_and_no_more() {
        let place = Place::new("sticky");
        place.folder("tmp/mine");
        place.program("tmp/mine/p");
        place.program("tmp/p");
        place.mode("tmp", 0o1777);
        assert!(place.find("tmp/mine", "tmp/mine/p").is_ok());
        // The file may be a hard link that another user has made, to any program of root's.
        assert_eq!(place.find("tmp", "tmp/p"), Err(Refusal::Untrusted));
    }

    #[test]
    fn what_belongs_to_others_is_not_trusted() {
        let place = Place::new("owner");
        place.program("p");
        let mut programs = Programs::new([place.at("")]);
        assert!(programs.find(Origin::Configured, &place.at("p")).is_ok());
        programs.owners = [u32::MAX; 2];
        let why = programs.find(Origin::Own, &place.at("p")).unwrap_err();
        assert!(matches!(&why, Distrust::Owner(path, 0) if path == Path::new("/")), "{why}");
        assert_eq!(why.refusal(), Refusal::Untrusted);
    }

    #[test]
    fn what_is_no_program_is_said_to_be_none() {
        let place = Place::new("none");
        place.folder("ok/folder");
        assert_eq!(place.find("ok", "ok/gone"), Err(Refusal::Missing));
        assert_eq!(place.find("ok", "ok/folder"), Err(Refusal::Denied));
        for path in ["", "p", "./p", "/", "/.."] {
            let why = Programs::new([]).find(Origin::Own, Path::new(path)).unwrap_err();
            assert_eq!(why.refusal(), Refusal::Malformed, "{path}");
        }
    }
}
