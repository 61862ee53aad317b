//! What the keeper says to its clients: answers, and events to those who watch.

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
    /// The number of the request that is answered; none in an event, nor in the answer to what has no number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// What it says.
    #[serde(flatten)]
    pub what: What,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// What was asked for is done, or has begun.
    Answer(Answer),
    /// It is not, and nothing has changed.
    Error(Error),
    /// Something has happened.
    Event(Event),
}

impl Message {
    /// The answer to a request.
    #[must_use]
    pub const fn answer(id: u64, answer: Answer) -> Self {
        Self { v: VERSION, id: Some(id), what: What::Answer(answer) }
    }

    /// The refusal of a request.
    #[must_use]
    pub const fn error(id: Option<u64>, error: Error) -> Self {
        Self { v: VERSION, id, what: What::Error(error) }
    }

    /// An event.
    #[must_use]
    pub const fn event(event: Event) -> Self {
        Self { v: VERSION, id: None, what: What::Event(event) }
    }

    /// Its JSON.
    ///
    /// # Panics
    ///
    /// Never: all of it can be written.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data")
    }
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The instance runs.
    Started {
        /// As it is now.
        instance: Box<View>,
        /// It did before, too.
        already: bool,
    },
    /// It is done, or has begun.
    Done,
    /// These deadlines have not been moved: their instances are not counted, or are ending.
    Renewed {
        /// Which.
        refused: Vec<InstanceId>,
    },
    /// A page of the instances. More follow with the same number unless this is the last.
    Instances {
        /// Whose they are.
        keeper: Box<KeeperView>,
        /// In the order of their names.
        instances: Vec<View>,
        /// More follow.
        more: bool,
    },
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// What kind it is, for programs.
    pub code: Code,
    /// What it is, for people.
    pub text: String,
    /// Who has what was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<InstanceId>,
}

/// The kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The request is of another version.
    Version,
    /// The request cannot be understood; after a frame that is too long the connection ends.
    Malformed,
    /// No such instance.
    Unknown,
    /// There was another start of this instance, or it has ended: a name is used once.
    Used,
    /// Another instance holds the service name.
    NameHeld,
    /// There are as many instances as the keeper holds.
    TooMany,
    /// It lives still.
    Lives,
    /// It does not run.
    NotRunning,
    /// The intent to start it could not be written; nothing was started.
    NotStored,
    /// The program may not be run, or the system cannot start it.
    NotStarted,
    /// Its deadline is over already.
    Late,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// An instance runs.
    Started(Box<View>),
    /// It is being ended.
    Stopping(Box<View>),
    /// It has ended, with all its processes.
    Exited(Box<View>),
    /// It has said more than is kept, and this much of it is lost.
    OutputDropped {
        /// Which.
        instance: InstanceId,
        /// How much, in bytes, since the last time.
        bytes: u64,
    },
    /// It is kept no longer.
    Forgotten {
        /// Which.
        instance: InstanceId,
    },
}

/// The keeper itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeeperView {
    /// Its process.
    pub pid: u32,
    /// The boot of this node that it belongs to (`/proc/sys/kernel/random/boot_id`).
    pub boot: Box<str>,
    /// The number of its life: one more at each start of the keeper in its folder.
    pub generation: u64,
    /// How it holds the processes of an instance together.
    pub held: Held,
}

/// How the processes of an instance are held together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// By a cgroup: none can leave.
    Cgroup,
    /// By their process group and by `HAX_INSTANCE` in their environment: one that changes both is lost.
    Group,
}

/// An instance, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Which.
    pub instance: InstanceId,
    /// The service name that it holds, or held.
    pub name: ServiceName,
    /// Where it is in its life.
    pub state: State,
    /// Its main process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The life of the keeper that has started it.
    pub generation: u64,
    /// An earlier life of the keeper has started it: its exit code may not be known.
    pub adopted: bool,
    /// Who has asked for it, as a user's number.
    pub asked_by: u32,
    /// The deadline of a counted one, in microseconds of `CLOCK_BOOTTIME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_us: Option<u64>,
    /// How its main process has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Who has ended it, or is ending it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Something of it could not be killed and is there still.
    #[serde(default, skip_serializing_if = "is_false")]
    pub left: bool,
    /// How much of its output is lost, in bytes.
    #[serde(default)]
    pub dropped: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is being started.
    Starting,
    /// It runs.
    Running,
    /// It is being ended.
    Stopping,
    /// It has ended.
    Ended,
}

/// Who has ended an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It ended by itself, or was killed from outside.
    Itself,
    /// It was stopped.
    Stop,
    /// It was killed through the keeper.
    Kill,
    /// It is counted and was not renewed in time.
    Deadline,
    /// The node was restarted.
    Reboot,
    /// The keeper was killed before the program had begun.
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
