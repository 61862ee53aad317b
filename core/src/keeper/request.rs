//! What clients ask of the keeper: the bodies of their frames.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString as _};
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::name::{InstanceId, ServiceName};

/// The version of the protocol. A client that speaks another one is told so.
pub const VERSION: u32 = 1;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The version: [`VERSION`].
    pub v: u32,
    /// The client's own number for it, which the answer bears.
    pub id: u64,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// Start an instance; answered once it runs. One that runs already with the same start is answered alike.
    Start(Box<Start>),
    /// Stop an instance in its own way; answered once that has begun.
    Stop {
        /// Which.
        instance: InstanceId,
    },
    /// Kill all of an instance at once.
    Kill {
        /// Which.
        instance: InstanceId,
    },
    /// Send a signal to the main process of an instance.
    Signal {
        /// Which.
        instance: InstanceId,
        /// The signal's number.
        signal: i32,
    },
    /// Move the deadlines of counted instances; one never moves back.
    Renew {
        /// Their deadlines, in microseconds of `CLOCK_BOOTTIME`.
        deadlines: BTreeMap<InstanceId, u64>,
    },
    /// Show all instances.
    List,
    /// The same, and tell whatever happens from then on.
    Watch,
    /// Keep an instance that has ended no longer. One that is not known is forgotten already.
    Forget {
        /// Which.
        instance: InstanceId,
    },
}

/// An instance that is to be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Names it.
    pub instance: InstanceId,
    /// The service name that it holds while it lives.
    pub name: ServiceName,
    /// The program, as an absolute path, and its arguments.
    pub argv: Box<[Box<str>]>,
    /// Added to the few variables that every instance has. Nothing is inherited from the keeper.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<Box<str>, Box<str>>,
    /// The user who runs it, by name or number: the keeper's own unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Box<str>>,
    /// Its group: the user's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Box<str>>,
    /// The folder that it runs in.
    #[serde(default = "root")]
    pub dir: Box<str>,
    /// Limits of each of its processes (setrlimit(2)), soft and hard alike; none is no limit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<Resource, Option<u64>>,
    /// How gladly the kernel ends it for want of memory, -1000 to 1000.
    #[serde(default)]
    pub oom_score_adj: i16,
    /// Permission bits that its files do not get.
    #[serde(default = "umask")]
    pub umask: u32,
    /// Where its output goes.
    #[serde(default)]
    pub output: OutputTarget,
    /// How it is stopped.
    #[serde(default)]
    pub stop: Stop,
    /// Its program ends when what it has started runs by itself. Else what is left of an instance whose main
    /// process has ended is killed.
    #[serde(default)]
    pub forks: bool,
    /// It runs as one of a number in the cluster: only while it is renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Counted>,
    /// The socket over which it speaks: `HAX_SOCKET`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<Box<str>>,
    /// What it shows there, besides its name: the second part of `HAX_INSTANCE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<Box<str>>,
}

fn root() -> Box<str> {
    "/".into()
}

const fn umask() -> u32 {
    0o022
}

/// A limit of setrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Address space, in bytes.
    As,
    /// Core dumps, in bytes.
    Core,
    /// Processor time, in seconds.
    Cpu,
    /// Data, in bytes.
    Data,
    /// Files, in bytes.
    Fsize,
    /// Locked memory, in bytes.
    Memlock,
    /// Open files.
    Nofile,
    /// Processes of the user.
    Nproc,
    /// The stack, in bytes.
    Stack,
}

/// Where the output of an instance goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputTarget {
    /// To a file in the keeper's folder for logs, named after the service name, rotated by size.
    #[default]
    File,
    /// To journald.
    Journal,
    /// Nowhere.
    Null,
}

/// How an instance is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// The signal that all its processes get; SIGTERM unless given.
    pub signal: i32,
    /// A program that is run instead, with its arguments; it has the main process's number as `MAINPID`.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub command: Box<[Box<str>]>,
    /// How long a stop may take, in milliseconds. Then all of it gets SIGKILL.
    pub kill_after_ms: u64,
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: 15, command: [].into(), kill_after_ms: 10_000 }
    }
}

impl Stop {
    /// How long a stop may take.
    #[must_use]
    pub const fn kill_after(&self) -> Duration {
        Duration::from_millis(self.kill_after_ms)
    }
}

/// The dead man's handle of a counted instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// When it is stopped unless it is renewed, in microseconds of `CLOCK_BOOTTIME`.
    pub until_us: u64,
    /// How long that stop may take, in milliseconds. Then all of it gets SIGKILL.
    pub grace_ms: u64,
    /// The term under which it runs: `HAX_FENCE`.
    pub fence: u64,
}

/// A request that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Its number, as far as it has one.
    pub id: Option<u64>,
    /// It is of another version.
    pub is_version: bool,
    /// What is wrong, in words.
    pub why: String,
}

/// Reads the body of a frame.
///
/// # Errors
///
/// It is of another version, or cannot be understood.
pub fn decode(body: &[u8]) -> Result<Request, Malformed> {
    /// What every version has.
    #[derive(Deserialize)]
    struct Head {
        v: u32,
        id: u64,
    }
    let text = |why: &serde_json::Error| why.to_string();
    let head: Head = serde_json::from_slice(body).map_err(|why| Malformed {
        id: None,
        is_version: false,
        why: text(&why),
    })?;
    let malformed = |is_version, why| Malformed { id: Some(head.id), is_version, why };
    if head.v != VERSION {
        let why = format!("version {}; the keeper speaks version {VERSION}", head.v);
        return Err(malformed(true, why));
    }
    let request: Request =
        serde_json::from_slice(body).map_err(|why| malformed(false, text(&why)))?;
    request.ask.check().map_err(|why| malformed(false, why.to_string()))?;
    Ok(request)
}

/// The longest time that a frame may ask for: a week.
const LONGEST_MS: u64 = 7 * 24 * 3600 * 1000;

/// The highest signal that has a name: those above are real-time signals.
pub const SIGNAL_MAX: i32 = 31;

/// Variables that the keeper sets.
const RESERVED: [&str; 4] = ["HAX_INSTANCE", "HAX_KEEPER", "HAX_SOCKET", "HAX_FENCE"];

impl Ask {
    fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::Start(start) => start.check(),
            Self::Signal { signal, .. } if !(1..=SIGNAL_MAX).contains(signal) => {
                Err("signal: 1 to 31")
            }
            Self::Stop { .. }
            | Self::Kill { .. }
            | Self::Signal { .. }
            | Self::Renew { .. }
            | Self::List
            | Self::Watch
            | Self::Forget { .. } => Ok(()),
        }
    }
}

impl Start {
    /// Whether it can be started at all, as far as its words say.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), &'static str> {
        let is_text = |text: &str| !text.contains('\0');
        let is_program = |argv: &[Box<str>]| argv.first().is_some_and(|name| name.starts_with('/'));
        let all_argv = || self.argv.iter().chain(&self.stop.command);
        let is_name = |name: &str| !name.is_empty() && !name.contains('=');
        let fits = |ms: u64| ms <= LONGEST_MS;
        let grace = self.counted.map_or(0, |counted| counted.grace_ms);
        let words = all_argv()
            .chain(self.env.iter().flat_map(|(name, value)| [name, value]))
            .chain(self.user.iter().chain(&self.group).chain(&self.socket).chain(&self.capability))
            .chain([&self.dir]);
        let rules = [
            (is_program(&self.argv), "argv: the program's absolute path comes first"),
            (
                self.stop.command.is_empty() || is_program(&self.stop.command),
                "stop.command: the program's absolute path comes first",
            ),
            (words.into_iter().all(|word| is_text(word)), "a word has a NUL"),
            (self.env.keys().all(|name| is_name(name)), "env: a name is empty or has '='"),
            (
                !self.env.keys().any(|name| RESERVED.contains(&&**name)),
                "env: HAX_INSTANCE, HAX_KEEPER, HAX_SOCKET and HAX_FENCE are set by the keeper",
            ),
            (self.dir.starts_with('/'), "dir: an absolute path is expected"),
            ((-1000..=1000).contains(&self.oom_score_adj), "oom_score_adj: -1000 to 1000"),
            (self.umask <= 0o777, "umask: 0 to 0777 (511)"),
            ((1..=SIGNAL_MAX).contains(&self.stop.signal), "stop.signal: 1 to 31"),
            (fits(self.stop.kill_after_ms) && fits(grace), "a time is longer than a week"),
        ];
        rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, why)| Err(why))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The least that a start has.
    pub(in crate::keeper) fn start(instance: &str, name: &str) -> Start {
        let text = format!(r#"{{"instance":"{instance}","name":"{name}","argv":["/bin/true"]}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn of(ask: &str) -> Result<Request, Malformed> {
        decode(format!(r#"{{"v":1,"id":7,"ask":{ask}}}"#).as_bytes())
    }

    #[test]
    fn requests_are_read_as_they_are_written() {
        let mut full = start("i", "n");
        full.counted = Some(Counted { until_us: 1, grace_ms: 2, fence: 3 });
        full.limits.insert(Resource::Nofile, Some(64));
        full.limits.insert(Resource::Core, None);
        full.env.insert("A".into(), "b".into());
        full.stop.command = ["/bin/stop".into(), "now".into()].into();
        let instance = InstanceId::new("i").unwrap();
        for ask in [
            Ask::Start(Box::new(start("i", "n"))),
            Ask::Start(Box::new(full)),
            Ask::Stop { instance: instance.clone() },
            Ask::Kill { instance: instance.clone() },
            Ask::Signal { instance: instance.clone(), signal: 1 },
            Ask::Renew { deadlines: [(instance.clone(), 5)].into() },
            Ask::List,
            Ask::Watch,
            Ask::Forget { instance },
        ] {
            let request = Request { v: VERSION, id: 9, ask };
            let text = serde_json::to_vec(&request).unwrap();
            assert_eq!(decode(&text), Ok(request), "{}", String::from_utf8_lossy(&text));
        }
        let least = start("i", "n");
        assert_eq!((least.stop.signal, least.stop.kill_after_ms, &*least.dir), (15, 10_000, "/"));
    }

    #[test]
    fn another_version_is_told_before_anything_else_is_read() {
        let why = decode(br#"{"v":2,"id":7,"fancy":[]}"#).unwrap_err();
        assert_eq!((why.id, why.is_version), (Some(7), true));
        assert_eq!(why.why, "version 2; the keeper speaks version 1");
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (ask, part) in [
            (r#"{"signal":{"instance":"a","signal":0}}"#, "signal: 1 to 31"),
            (r#""sing""#, "unknown variant `sing`"),
            (r#"{"stop":{"instance":"a/b"}}"#, "is no name"),
            (r#"{"stop":{"instance":"a","x":1}}"#, "unknown field `x`"),
            (r#"{"start":{"instance":"a","name":"b"}}"#, "missing field `argv`"),
            (r#"{"start":{"instance":"a","name":"b","argv":[]}}"#, "argv: the program's"),
            (r#"{"start":{"instance":"a","name":"b","argv":["ls"]}}"#, "argv: the program's"),
            (r#"{"start":{"instance":"a","name":"b","argv":["/b\u0000"]}}"#, "NUL"),
            (r#"{"start":{"instance":"a","name":"b","argv":["/b"],"dir":"x"}}"#, "dir:"),
            (r#"{"start":{"instance":"a","name":"b","argv":["/b"],"umask":512}}"#, "umask:"),
            (r#"{"start":{"instance":"a","name":"b","argv":["/b"],"oom_score_adj":1001}}"#, "oom"),
            (r#"{"start":{"instance":"a","name":"b","argv":["/b"],"env":{"A=":""}}}"#, "env:"),
            (
                r#"{"start":{"instance":"a","name":"b","argv":["/b"],"env":{"HAX_FENCE":"1"}}}"#,
                "set by the keeper",
            ),
            (
                r#"{"start":{"instance":"a","name":"b","argv":["/b"],"stop":{"signal":32}}}"#,
                "stop.signal",
            ),
            (
                r#"{"start":{"instance":"a","name":"b","argv":["/b"],"stop":{"command":["x"]}}}"#,
                "stop.command",
            ),
            (
                r#"{"start":{"instance":"a","name":"b","argv":["/b"],"stop":{"kill_after_ms":604800001}}}"#,
                "longer than a week",
            ),
            (r#"{"start":{"instance":"a","name":"b","argv":["/b"],"limits":{"x":1}}}"#, "`x`"),
        ] {
            let why = of(ask).unwrap_err();
            assert!(why.why.contains(part), "{ask}: {}", why.why);
            assert_eq!((why.id, why.is_version), (Some(7), false), "{ask}");
        }
        for body in [&b""[..], b"{", b"[]", b"\xff", b"null", br#"{"v":1}"#, br#"{"v":-1,"id":1}"#]
        {
            assert_eq!(decode(body).unwrap_err().id, None);
        }
    }
}
