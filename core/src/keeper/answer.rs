//! The messages that the keeper sends to its clients: replies, and events for clients that watch.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::name::{InstanceId, ServiceName};
use super::request::VERSION;
use crate::exec::Status;

/// The body of a frame to a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The version: [`VERSION`].
    pub v: u32,
    /// The id of the request. Events have none, and neither do replies to a frame without an id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The content of the message.
    #[serde(flatten)]
    pub what: What,
}

/// The content of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The request has been carried out, or its execution has begun.
    Answer(Answer),
    /// The request has failed and nothing has changed.
    Error(Error),
    /// An event.
    Event(Event),
}

impl Message {
    /// Creates the reply to a request.
    #[must_use]
    pub const fn answer(id: u64, answer: Answer) -> Self {
        Self { v: VERSION, id: Some(id), what: What::Answer(answer) }
    }

    /// Creates the error reply to a request.
    #[must_use]
    pub const fn error(id: Option<u64>, error: Error) -> Self {
        Self { v: VERSION, id, what: What::Error(error) }
    }

    /// Creates an event message.
    #[must_use]
    pub const fn event(event: Event) -> Self {
        Self { v: VERSION, id: None, what: What::Event(event) }
    }

    /// Returns the message as JSON.
    ///
    /// # Panics
    ///
    /// Never: every message can be serialized.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data")
    }
}

/// The reply to a successful request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The instance runs.
    Started {
        /// The current state of the instance.
        instance: Box<View>,
        /// Whether the instance was running before the request.
        already: bool,
    },
    /// The request has been carried out, or its execution has begun.
    Done,
    /// The deadlines have been renewed, except for the refused instances.
    Renewed {
        /// The instances whose deadlines were not moved: they are not counted, or they are ending.
        refused: Vec<InstanceId>,
    },
    /// A page of the list of instances. Pages with the same request id follow unless this is the last one.
    Instances {
        /// The keeper that runs them.
        keeper: Box<KeeperView>,
        /// The instances, ordered by id.
        instances: Vec<View>,
        /// Whether more pages follow.
        more: bool,
    },
}

/// The reason why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// The kind of the error, for programs.
    pub code: Code,
    /// The description, for people.
    pub text: String,
    /// The instance that holds the requested service name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<InstanceId>,
}

/// The kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The request has another protocol version.
    Version,
    /// The request cannot be parsed. After a frame that is too long the keeper closes the connection.
    Malformed,
    /// The instance does not exist.
    Unknown,
    /// The instance id belongs to another start, or the instance has ended. An id is used only once.
    Used,
    /// Another instance holds the service name.
    NameHeld,
    /// The keeper already has the maximum number of instances.
    TooMany,
    /// The instance has not ended.
    Lives,
    /// The instance does not run.
    NotRunning,
    /// The intent could not be written, so the instance was not started.
    NotStored,
    /// The program may not be run, or the system cannot start it.
    NotStarted,
    /// The deadline of the instance has passed already.
    Late,
}

/// An event that watching clients receive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// An instance has been started and runs.
    Started(Box<View>),
    /// An instance is being stopped.
    Stopping(Box<View>),
    /// An instance has ended, with all its processes.
    Exited(Box<View>),
    /// An instance has written more output than is kept, and part of the output is lost.
    OutputDropped {
        /// The instance.
        instance: InstanceId,
        /// The number of bytes lost since the last such event.
        bytes: u64,
    },
    /// An instance has been removed from the table.
    Forgotten {
        /// The instance.
        instance: InstanceId,
    },
}

/// The description of the keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeeperView {
    /// The keeper's process id.
    pub pid: u32,
    /// The id of the boot that the keeper belongs to (`/proc/sys/kernel/random/boot_id`).
    pub boot: Box<str>,
    /// The keeper's generation: it increases by one at each start of the keeper in its folder.
    pub generation: u64,
    /// The way in which the keeper groups an instance's processes.
    pub held: Held,
}

/// The mechanism that groups the processes of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// A cgroup. No process can leave it.
    Cgroup,
    /// The process group, and `HAX_INSTANCE` in the environment. The keeper loses a process that changes
    /// both.
    Group,
}

/// The description of an instance for clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The id of the instance.
    pub instance: InstanceId,
    /// The service name that the instance holds or held.
    pub name: ServiceName,
    /// The tag of the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Box<str>>,
    /// The secret by which the instance proves itself to the client that has asked for its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<Box<str>>,
    /// The state of the instance.
    pub state: State,
    /// The process id of the main process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The generation of the keeper that started the instance.
    pub generation: u64,
    /// Whether an earlier keeper process started the instance. If so, its exit code may be unknown.
    pub adopted: bool,
    /// The user id of the client that requested the start.
    pub asked_by: u32,
    /// The deadline of a counted instance, in microseconds of `CLOCK_BOOTTIME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_us: Option<u64>,
    /// The exit status of the main process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The cause of the end, once the instance ends or has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Whether processes of the instance could not be killed and still exist.
    #[serde(default, skip_serializing_if = "is_false")]
    pub left: bool,
    /// The number of bytes of output that are lost.
    #[serde(default)]
    pub dropped: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// The state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The instance is being started.
    Starting,
    /// The instance runs.
    Running,
    /// The instance is being stopped.
    Stopping,
    /// The instance has ended.
    Ended,
}

/// The cause of an instance's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The instance ended by itself, or something other than the keeper killed it.
    Itself,
    /// A client stopped the instance.
    Stop,
    /// A client killed the instance through the keeper.
    Kill,
    /// The instance is counted and was not renewed in time.
    Deadline,
    /// The node was restarted.
    Reboot,
    /// The keeper was killed before the program began.
    NotBegun,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_are_written() {
        let instance = InstanceId::new("i").unwrap();
        let view = Box::new(View {
            instance: instance.clone(),
            name: ServiceName::new("n").unwrap(),
            tag: Some("t".into()),
            capability: Some("c".into()),
            state: State::Ended,
            pid: Some(5),
            generation: 3,
            adopted: true,
            asked_by: 0,
            until_us: None,
            status: Some(Status::Signal(9)),
            cause: Some(Cause::Itself),
            left: false,
            dropped: 0,
        });
        let error =
            Error { code: Code::NameHeld, text: "held".into(), holder: Some(instance.clone()) };
        for message in [
            Message::answer(1, Answer::Done),
            Message::answer(1, Answer::Started { instance: view.clone(), already: false }),
            Message::answer(2, Answer::Renewed { refused: [instance.clone()].into() }),
            Message::error(None, error),
            Message::event(Event::Exited(view)),
            Message::event(Event::OutputDropped { instance, bytes: 9 }),
        ] {
            let text = message.encode();
            assert_eq!(serde_json::from_slice::<Message>(&text).unwrap(), message);
        }
        let text = String::from_utf8(Message::answer(1, Answer::Done).encode()).unwrap();
        assert_eq!(text, r#"{"v":1,"id":1,"answer":"done"}"#);
    }
}
