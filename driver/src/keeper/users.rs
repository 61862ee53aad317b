//! The lookup of users and groups by name, in `/etc/passwd` and `/etc/group`. Users and groups that only a
//! directory service knows have to be given as numbers: the keeper sends no query to a service that may not
//! reply.

use std::fs;
use std::path::Path;

use rustix::process::{Gid, Uid};

use crate::exec::child::Credentials;

/// The user of an instance, and the related environment variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) credentials: Credentials,
    /// The value of `USER` and `LOGNAME`.
    pub(super) name: Option<String>,
    /// The value of `HOME`.
    pub(super) home: Option<String>,
}

/// An entry of `/etc/passwd`.
struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// The contents of the two files.
pub(super) struct Users {
    passwd: String,
    group: String,
}

impl Users {
    /// Reads both files. A file that cannot be read counts as empty.
    pub(super) fn read(folder: &Path) -> Self {
        let text = |name| {
            let bytes = fs::read(folder.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Self { passwd: text("passwd"), group: text("group") }
    }

    /// Finds a user. `group` replaces the user's own group.
    pub(super) fn find(&self, user: &str, group: Option<&str>) -> Result<User, String> {
        let entry = self.entry(user);
        let number = user.parse().ok();
        let uid = entry.as_ref().map(|entry| entry.uid).or(number);
        let uid = uid.ok_or_else(|| format!("there is no user {user:?} in /etc/passwd"))?;
        let gid = match (group, &entry) {
            (Some(group), _) => self.group(group)?,
            (None, Some(entry)) => entry.gid,
            (None, None) => {
                return Err(format!("user {user} is not in /etc/passwd: give its group, too"));
            }
        };
        let name = entry.as_ref().map(|entry| entry.name.to_owned());
        let mut groups: Vec<_> = name.as_deref().map_or_else(Vec::new, |name| self.groups_of(name));
        groups.push(gid);
        groups.sort_unstable();
        groups.dedup();
        let credentials = Credentials {
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            groups: groups.into_iter().map(Gid::from_raw).collect(),
        };
        Ok(User { credentials, name, home: entry.map(|entry| entry.home.to_owned()) })
    }

    /// Returns the id of a group.
    pub(super) fn group(&self, group: &str) -> Result<u32, String> {
        let known = rows(&self.group).find(|row| row.first() == Some(&group));
        let known = known.and_then(|row| row.get(2)?.parse().ok());
        let gid = known.or_else(|| group.parse().ok());
        gid.ok_or_else(|| format!("there is no group {group:?} in /etc/group"))
    }

    fn entry(&self, user: &str) -> Option<Entry<'_>> {
        let is_it = |row: &Vec<&str>| row.first() == Some(&user) || row.get(2) == Some(&user);
        let row = rows(&self.passwd).find(is_it)?;
        let number = |n: usize| row.get(n)?.parse().ok();
        let (uid, gid) = (number(2)?, number(3)?);
        Some(Entry { name: row.first()?, uid, gid, home: row.get(5)? })
    }

    fn groups_of(&self, user: &str) -> Vec<u32> {
        let has = |row: &Vec<&str>| {
            row.get(3).is_some_and(|names| names.split(',').any(|name| name == user))
        };
        rows(&self.group).filter(has).filter_map(|row| row.get(2)?.parse().ok()).collect()
    }
}

fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(':').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        Users {
            passwd: "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34:w:/var/www:/bin/false\nbad:x\n"
                .into(),
            group: "root:x:0:\nwww:x:34:\nssl:x:40:a,www\nwheel:x:41:awww\n".into(),
        }
    }

    fn ids(user: &User) -> (u32, u32, Vec<u32>) {
        let Credentials { uid, gid, groups } = &user.credentials;
        (uid.as_raw(), gid.as_raw(), groups.iter().map(|gid| gid.as_raw()).collect())
    }

    #[test]
    fn a_user_is_found_by_name_and_by_number_with_all_groups() {
        for name in ["www", "33"] {
            let user = users().find(name, None).unwrap();
            assert_eq!(ids(&user), (33, 34, vec![34, 40]));
            assert_eq!(
                (user.name.as_deref(), user.home.as_deref()),
                (Some("www"), Some("/var/www"))
            );
        }
        assert_eq!(ids(&users().find("www", Some("wheel")).unwrap()), (33, 41, vec![40, 41]));
        assert_eq!(ids(&users().find("70", Some("71")).unwrap()), (70, 71, vec![71]));
    }

    #[test]
    fn who_is_not_there_is_named() {
        for (user, group, part) in [
            ("ghost", None, "no user \"ghost\""),
            ("bad", None, "no user \"bad\""),
            ("70", None, "give its group"),
            ("www", Some("ghosts"), "no group \"ghosts\""),
        ] {
            let why = users().find(user, group).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }
}
