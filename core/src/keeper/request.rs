//! The requests of clients to the keeper: the bodies of their frames.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString as _};
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::name::{InstanceId, ServiceName};

/// The version of the protocol. A client with another version gets an error reply.
pub const VERSION: u32 = 1;

/// A request of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The version: [`VERSION`].
    pub v: u32,
    /// The request's id, chosen by the client. The reply has the same id.
    pub id: u64,
    /// The requested operation.
    pub ask: Ask,
}

/// The operation of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// Starts an instance. The reply follows once it runs. If the same start runs already, the reply is the
    /// same.
    Start(Box<Start>),
    /// Stops an instance with its own stop method. The reply follows once the stop has begun.
    Stop {
        /// The instance.
        instance: InstanceId,
    },
    /// Kills all processes of an instance at once.
    Kill {
        /// The instance.
        instance: InstanceId,
    },
    /// Sends a signal to the main process of an instance.
    Signal {
        /// The instance.
        instance: InstanceId,
        /// The signal's number.
        signal: i32,
    },
    /// Moves the deadlines of counted instances. A deadline never moves back.
    Renew {
        /// The new deadlines, in microseconds of `CLOCK_BOOTTIME`.
        deadlines: BTreeMap<InstanceId, u64>,
    },
    /// Lists all instances.
    List,
    /// Lists all instances, and subscribes to all later events.
    Watch,
    /// Removes an ended instance from the table. For an unknown instance the request succeeds.
    Forget {
        /// The instance.
        instance: InstanceId,
    },
}

/// The maximum size of a tag, in bytes.
pub const TAG_MAX: usize = 64;

/// The parameters of an instance's start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The id of the instance.
    pub instance: InstanceId,
    /// The service name that the instance holds while it lives.
    pub name: ServiceName,
    /// The program, as an absolute path, and its arguments.
    pub argv: Box<[Box<str>]>,
    /// Environment variables in addition to the few that every instance has. No variable is inherited from
    /// the keeper.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<Box<str>, Box<str>>,
    /// The user that runs the program, by name or number. The default is the keeper's own user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Box<str>>,
    /// The group, by name or number. The default is the user's group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Box<str>>,
    /// The working directory.
    #[serde(default = "root")]
    pub dir: Box<str>,
    /// The limits of each process (setrlimit(2)). The soft and the hard limit are equal. None means no limit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<Resource, Option<u64>>,
    /// The kernel's preference to kill the instance when memory runs out, -1000 to 1000.
    #[serde(default)]
    pub oom_score_adj: i16,
    /// The permission bits that are removed from files the instance creates.
    #[serde(default = "umask")]
    pub umask: u32,
    /// The target of the instance's output.
    #[serde(default)]
    pub output: OutputTarget,
    /// The stop method.
    #[serde(default)]
    pub stop: Stop,
    /// Whether the program ends while processes that it started continue. Otherwise the keeper kills the
    /// remaining processes of an instance whose main process has ended.
    #[serde(default)]
    pub forks: bool,
    /// The parameters of a counted instance. It is one of a limited number in the cluster, and runs only
    /// while it is renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Counted>,
    /// The path of the instance's socket, in `HAX_SOCKET`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<Box<str>>,
    /// The credential that the instance presents on the socket besides its name: the second part of
    /// `HAX_INSTANCE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<Box<str>>,
    /// A word of the client's, at most [`TAG_MAX`] bytes. It is repeated in the instance's views: a client that
    /// finds the instance later knows by it with which configuration it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Box<str>>,
}

fn root() -> Box<str> {
    "/".into()
}

const fn umask() -> u32 {
    0o022
}

/// A limited resource of setrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// The address space, in bytes.
    As,
    /// The size of core dumps, in bytes.
    Core,
    /// The processor time, in seconds.
    Cpu,
    /// The data segment, in bytes.
    Data,
    /// The size of files, in bytes.
    Fsize,
    /// Locked memory, in bytes.
    Memlock,
    /// The number of open files.
    Nofile,
    /// The number of processes of the user.
    Nproc,
    /// The stack, in bytes.
    Stack,
}

/// The target of an instance's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputTarget {
    /// A file in the keeper's folder for logs. It is named after the service name and rotated by size.
    #[default]
    File,
    /// The journal of journald.
    Journal,
    /// No target: the output is discarded.
    Null,
}

/// The method by which an instance is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// The signal for all processes of the instance. The default is SIGTERM.
    pub signal: i32,
    /// A program with its arguments, run instead of sending the signal. Its variable `MAINPID` contains the
    /// main process id.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub command: Box<[Box<str>]>,
    /// The time limit of a stop, in milliseconds. After it all processes of the instance get SIGKILL.
    pub kill_after_ms: u64,
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: 15, command: [].into(), kill_after_ms: 10_000 }
    }
}

impl Stop {
    /// Returns the time limit of a stop.
    #[must_use]
    pub const fn kill_after(&self) -> Duration {
        Duration::from_millis(self.kill_after_ms)
    }
}

/// The dead man's handle of a counted instance: the instance is stopped unless a client renews it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// The deadline, in microseconds of `CLOCK_BOOTTIME`. The keeper stops the instance at the deadline
    /// unless it is renewed.
    pub until_us: u64,
    /// The time limit of that stop, in milliseconds. After it all processes of the instance get SIGKILL.
    pub grace_ms: u64,
    /// The term under which the instance runs, in `HAX_FENCE`.
    pub fence: u64,
}

/// The error of a request that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The request's id, if it could be read.
    pub id: Option<u64>,
    /// Whether the request has another protocol version.
    pub is_version: bool,
    /// The error, as text.
    pub why: String,
}

/// Parses the body of a frame.
///
/// # Errors
///
/// The request has another protocol version, or cannot be parsed.
pub fn decode(body: &[u8]) -> Result<Request, Malformed> {
    /// The fields that every version has.
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

/// The maximum duration in a request: a week.
const LONGEST_MS: u64 = 7 * 24 * 3600 * 1000;

/// The highest signal that has a name. Higher numbers are real-time signals.
pub const SIGNAL_MAX: i32 = 31;

/// The environment variables that the keeper sets.
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
    /// Checks whether the parameters are valid.
    ///
    /// # Errors
    ///
    /// The first invalid parameter, as text.
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
            (self.tag.as_ref().is_none_or(|tag| tag.len() <= TAG_MAX), "tag: at most 64 bytes"),
            (fits(self.stop.kill_after_ms) && fits(grace), "a time is longer than a week"),
        ];
        rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, why)| Err(why))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns a start with the required fields only.
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
        full.tag = Some("t".into());
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
