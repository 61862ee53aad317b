use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

/// An empty folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hax-state-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn open(&self) -> (StateFile, Slots) {
        StateFile::open(&self.0).unwrap()
    }

    fn file(&self) -> PathBuf {
        self.0.join(NAME)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn keep(slot: u32, value: &'static [u8]) -> Command {
    Command::Keep { slot, value: Bytes::from_static(value) }
}

#[test]
fn the_last_values_are_found_again() {
    let folder = Folder::new("again");
    let (mut state, slots) = folder.open();
    assert_eq!(slots, []);
    for command in [keep(0, b"one"), keep(2, b"two"), keep(0, b"three"), keep(1, b"x")] {
        state.execute(&command);
    }
    state.execute(&Command::Empty { slot: 1 });
    let long = Bytes::from(vec![7; VALUE_MAX]);
    state.execute(&Command::Keep { slot: 3, value: long.clone() });
    drop(state);
    let expected = [(0, Bytes::from_static(b"three")), (2, Bytes::from_static(b"two")), (3, long)];
    let (mut state, slots) = folder.open();
    assert_eq!(slots, expected);
    state.execute(&keep(0, b"four"));
    drop(state);
    assert_eq!(folder.open().1[0], (0, Bytes::from_static(b"four")));
    assert_eq!(fs::metadata(folder.file()).unwrap().permissions().mode() & 0o777, 0o600);
}

/// A daemon is killed in the middle of a write: the former value is there, and it is sound.
#[test]
fn a_torn_value_is_the_former_one() {
    let folder = Folder::new("torn");
    let (mut state, _) = folder.open();
    state.execute(&keep(0, b"first"));
    state.execute(&keep(0, b"second"));
    drop(state);
    let file = fs::OpenOptions::new().write(true).open(folder.file()).unwrap();
    // The second half of the pair holds odd numbers.
    for at in [place_of(0, 2), place_of(0, 2) + 8, place_of(0, 2) + HEAD as u64 + 5] {
        file.write_all_at(&[0x55], at).unwrap();
        assert_eq!(folder.open().1, [(0, Bytes::from_static(b"first"))]);
    }
    // Without a complete half the loss is passed on.
    file.write_all_at(&[0x55; 8], place_of(0, 1)).unwrap();
    assert_eq!(folder.open().1, [(0, Bytes::new())]);
}

#[test]
fn one_daemon_has_the_file() {
    let folder = Folder::new("lock");
    let (state, _) = folder.open();
    assert!(matches!(StateFile::open(&folder.0), Err(Error::Used(_))));
    drop(state);
    folder.open();
}

#[test]
fn a_copy_is_another_file() {
    let folder = Folder::new("copy");
    let (mut state, _) = folder.open();
    state.execute(&keep(0, b"old"));
    drop(state);
    let old = fs::read(folder.file()).unwrap();
    fs::remove_file(folder.file()).unwrap();
    // Another file is there first, so the copy does not get the same inode.
    fs::write(folder.0.join("other"), "x").unwrap();
    fs::write(folder.file(), old).unwrap();
    fs::set_permissions(folder.file(), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(folder.open().1, []);
}

#[test]
fn what_others_could_write_is_refused() {
    let folder = Folder::new("others");
    drop(folder.open());
    let refused = |what: &str| {
        let opened = StateFile::open(&folder.0);
        assert!(matches!(opened, Err(Error::NotOurs(_))), "{what}: {opened:?}");
    };
    fs::set_permissions(folder.file(), fs::Permissions::from_mode(0o640)).unwrap();
    refused("a file that others may read");
    fs::set_permissions(folder.file(), fs::Permissions::from_mode(0o600)).unwrap();
    fs::hard_link(folder.file(), folder.0.join("second")).unwrap();
    refused("a file with two names");
    fs::remove_file(folder.file()).unwrap();
    symlink(folder.0.join("second"), folder.file()).unwrap();
    refused("a symbolic link");
    fs::remove_file(folder.file()).unwrap();
    fs::create_dir(folder.file()).unwrap();
    refused("a folder");
    fs::remove_dir(folder.file()).unwrap();
    folder.open();
    let link = folder.0.with_extension("link");
    let _ = fs::remove_file(&link);
    symlink(&folder.0, &link).unwrap();
    assert!(matches!(StateFile::open(&link), Err(Error::System { .. })));
    fs::remove_file(&link).unwrap();
}

#[test]
fn what_cannot_be_written_leaves_nothing_behind() {
    let folder = Folder::new("full");
    let (mut state, _) = folder.open();
    state.execute(&keep(0, b"old"));
    state.execute(&Command::Keep { slot: 0, value: Bytes::from(vec![7; VALUE_MAX + 1]) });
    assert!(!folder.file().exists());
    state.execute(&keep(0, b"later"));
    drop(state);
    assert_eq!(folder.open().1, []);
}

#[test]
fn a_node_has_a_boot_id() {
    assert!(boot_id().is_some_and(|id| id != 0) && boot_id() == boot_id());
}
