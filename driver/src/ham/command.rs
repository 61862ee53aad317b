//! The syntax of `ham`'s commands.

use std::str::FromStr;
use std::time::Duration;

use hax_core::base::fid::Fid;
use hax_core::ha::message::Body;
use hax_core::ha::note::{NOTES_MAX, Note, Nvec, NvecKind, ObjectState};
use hax_core::ha::process::{ProcessEvent, ProcessEventKind, ProcessType, ServiceEvent};
use hax_core::ha::report::{BeIoErr, SnsErr, StobIoq};

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Requests the entrypoint and waits for the reply.
    Entrypoint,
    /// Sends a message.
    Send(Body),
    /// Waits for a time.
    Wait(Duration),
    /// Waits until all sent messages are delivered.
    WaitDelivered,
    /// Waits for one more message, of this kind if one is given (with the name of [`Body::name`]).
    WaitMessage(Option<Box<str>>),
    /// Disconnects the link properly, then exits.
    Stop,
    /// Exits like a killed process, without a message to the peer.
    Quit,
}

/// The error of an invalid command, with the correct syntax.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadCommand(String);

impl BadCommand {
    fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

type Result<T> = std::result::Result<T, BadCommand>;

impl FromStr for Command {
    type Err = BadCommand;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace();
        let Some(verb) = words.next() else { return Err(BadCommand::new("an empty command")) };
        let words: Vec<_> = words.collect();
        let alone = |command| match words.first() {
            None => Ok(command),
            Some(word) => Err(BadCommand::new(format!("{verb} takes nothing, not {word:?}"))),
        };
        match verb {
            "entrypoint" => alone(Self::Entrypoint),
            "process" => process(&words).map(Self::Send),
            "service" => service(&words).map(Self::Send),
            "nvec-get" => nvec(NvecKind::Get, &words).map(Self::Send),
            "nvec-set" => nvec(NvecKind::Set, &words).map(Self::Send),
            "failvec" => failvec(&words).map(Self::Send),
            "stob-ioq" => stob_ioq(&words).map(Self::Send),
            "rpc" => alone(Self::Send(Body::Rpc { attempts: 1, state: 3 })),
            "keepalive" => alone(Self::Send(Body::KeepaliveReq((1, 2)))),
            "be-io-err" => {
                alone(Self::Send(Body::BeIoErr(BeIoErr { errcode: 5, location: 0, io_opcode: 0 })))
            }
            "sns-err" => alone(Self::Send(Body::SnsErr(SnsErr { errcode: 5, opcode: 0 }))),
            "wait" => wait(&words),
            "wait-delivered" => alone(Self::WaitDelivered),
            "wait-message" => match words[..] {
                [] => Ok(Self::WaitMessage(None)),
                [kind] => Ok(Self::WaitMessage(Some(kind.to_ascii_uppercase().into()))),
                _ => Err(BadCommand::new("wait-message takes one kind, for example NVEC")),
            },
            "stop" => alone(Self::Stop),
            "quit" => alone(Self::Quit),
            _ => {
                Err(BadCommand::new(format!("unknown command {verb:?}; `hax ham --help` has all")))
            }
        }
    }
}

fn fid(word: &str) -> Result<Fid> {
    word.parse().map_err(|why| BadCommand::new(format!("{word:?}: {why}")))
}

fn number(word: &str) -> Result<u64> {
    word.parse().map_err(|_| BadCommand::new(format!("{word:?} is not a number")))
}

fn process(words: &[&str]) -> Result<Body> {
    let expected = "expected process starting|started|stopping|stopped|dtm-recovered \
        [type=m0d|mkfs|other|kernel] [pid=N]";
    let bad = || BadCommand::new(expected);
    let (event, options) = words.split_first().ok_or_else(bad)?;
    let event = match *event {
        "starting" => ProcessEventKind::Starting,
        "started" => ProcessEventKind::Started,
        "stopping" => ProcessEventKind::Stopping,
        "stopped" => ProcessEventKind::Stopped,
        "dtm-recovered" => ProcessEventKind::DtmRecovered,
        _ => return Err(bad()),
    };
    let mut said = ProcessEvent { event, kind: ProcessType::M0d, pid: super::PID };
    for option in options {
        match option.split_once('=') {
            Some(("pid", n)) => said.pid = number(n)?,
            Some(("type", "m0d")) => said.kind = ProcessType::M0d,
            Some(("type", "mkfs")) => said.kind = ProcessType::Mkfs,
            Some(("type", "other")) => said.kind = ProcessType::Other,
            Some(("type", "kernel")) => said.kind = ProcessType::Kernel,
            _ => return Err(bad()),
        }
    }
    Ok(Body::Process(said))
}

fn service(words: &[&str]) -> Result<Body> {
    let expected = "expected service starting|started|stopping|stopped|failed [type=N] [pid=N]";
    let bad = || BadCommand::new(expected);
    let (event, options) = words.split_first().ok_or_else(bad)?;
    let events = ["starting", "started", "stopping", "stopped", "failed"];
    let event = (0..).zip(events).find(|(_, name)| name == event).ok_or_else(bad)?.0;
    let mut said = ServiceEvent { event, kind: 0, pid: super::PID };
    for option in options {
        match option.split_once('=') {
            Some(("type", n)) => said.kind = number(n)?,
            Some(("pid", n)) => said.pid = number(n)?,
            _ => return Err(bad()),
        }
    }
    Ok(Body::Service(said))
}

fn nvec(kind: NvecKind, words: &[&str]) -> Result<Body> {
    let note = |word: &&str| match (kind, word.split_once('=')) {
        (NvecKind::Get, None) => Ok(Note { fid: fid(word)?, state: ObjectState::Unknown }),
        (NvecKind::Set, Some((of, to))) => Ok(Note { fid: fid(of)?, state: state(to)? }),
        (NvecKind::Get, _) => Err(BadCommand::new("expected nvec-get FID…")),
        _ => Err(BadCommand::new("expected nvec-set FID=STATE…")),
    };
    let notes = words.iter().map(note).collect::<Result<Vec<_>>>()?;
    if notes.is_empty() || notes.len() > NOTES_MAX {
        return Err(BadCommand::new(format!("expected 1 to {NOTES_MAX} fids")));
    }
    let id_of_get = if kind == NvecKind::Get { 1 } else { 0 };
    Ok(Body::Nvec(Box::new(Nvec { kind, id_of_get, ignore_same_state: 0, notes })))
}

/// Parses a state's name, in either case, or its number.
fn state(word: &str) -> Result<ObjectState> {
    if let Ok(n) = word.parse() {
        return Ok(ObjectState::from_wire(n));
    }
    let name = word.to_ascii_uppercase().replace('-', "_");
    (0..8).map(ObjectState::from_wire).find(|state| state.name() == name).ok_or_else(|| {
        BadCommand::new(format!(
            "{word:?} is not a state: expected unknown, online, failed, transient, repair, repaired, \
             rebalance or dtm-recovering"
        ))
    })
}

fn failvec(words: &[&str]) -> Result<Body> {
    let pool = match words {
        [] => Fid::typed(b'o', 1, 0),
        [pool] => fid(pool)?,
        _ => return Err(BadCommand::new("expected failvec [POOL]")),
    };
    Ok(Body::FailureVecReq { pool, cookie: (1, 2) })
}

fn stob_ioq(words: &[&str]) -> Result<Body> {
    let sdev = match words {
        [] => Fid::typed(b'd', 1, 0),
        [sdev] => fid(sdev)?,
        _ => return Err(BadCommand::new("expected stob-ioq [SDEV]")),
    };
    // The event of a write of a 4 KiB block that failed with EIO.
    let (stob_domain, stob) = (Fid::new(2, 0), Fid::new(2, 1));
    let (fd, opcode, rc, offset, size, bshift) = (3, 1, -5, 0, 4096, 12);
    let said = StobIoq { sdev, stob_domain, stob, fd, opcode, rc, offset, size, bshift };
    Ok(Body::StobIoq(Box::new(said)))
}

fn wait(words: &[&str]) -> Result<Command> {
    let bad = || BadCommand::new("expected wait SECONDS, for example wait 0.5");
    let [seconds] = words else { return Err(bad()) };
    let seconds: f64 = seconds.trim_end_matches('s').parse().map_err(|_| bad())?;
    Duration::try_from_secs_f64(seconds).map(Command::Wait).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Body {
        match text.parse() {
            Ok(Command::Send(body)) => body,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn commands_are_read() {
        assert_eq!(" entrypoint ".parse(), Ok(Command::Entrypoint));
        assert_eq!("wait 0.25".parse(), Ok(Command::Wait(Duration::from_millis(250))));
        assert_eq!("wait-message nvec".parse(), Ok(Command::WaitMessage(Some("NVEC".into()))));
        let said =
            ProcessEvent { event: ProcessEventKind::Stopped, kind: ProcessType::Mkfs, pid: 7 };
        assert_eq!(body("process stopped type=mkfs pid=7"), Body::Process(said));
        let Body::Nvec(nvec) = body("nvec-set 0x6400000000000001:0x5=dtm-recovering 0x1:0x2=2")
        else {
            panic!()
        };
        let states: Vec<_> = nvec.notes.iter().map(|note| note.state).collect();
        assert_eq!(states, [ObjectState::DtmRecovering, ObjectState::Failed]);
        assert_eq!(body("keepalive").name(), "KEEPALIVE_REQ");
        assert_eq!(body("service failed").name(), "EVENT_SERVICE");
        assert_eq!(body("stob-ioq").name(), "STOB_IOQ");
    }

    #[test]
    fn bad_commands_say_what_is_expected() {
        for (text, hint) in [
            ("", "empty"),
            ("entrypont", "--help"),
            ("entrypoint now", "takes nothing"),
            ("process", "starting|started"),
            ("process started type=x", "type=m0d"),
            ("nvec-get", "fids"),
            ("nvec-get 5", "0xCONTAINER:0xKEY"),
            ("nvec-set 0x1:0x2=fine", "dtm-recovering"),
            ("nvec-set 0x1:0x2", "FID=STATE"),
            ("wait", "SECONDS"),
            ("wait -1", "SECONDS"),
            ("wait nan", "SECONDS"),
            ("wait-message a b", "one kind"),
        ] {
            let error = text.parse::<Command>().unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
