//! The library's glue on the fake library, started and running.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use hax_core::base::errno::Errno;
use hax_core::base::fid::Fid;
use hax_core::base::id::{EntryId, LinkId, SendId};
use hax_core::base::time::WallClock;
use hax_core::discover::Services;
use hax_core::ha::entrypoint::{Confd, Entrypoint};
use hax_core::ha::message::{Body, Message};
use hax_core::ha::motr::{Command, Event, Purpose};
use hax_core::ha::note::{Note, Nvec, NvecKind, ObjectState};
use hax_core::ha::process::{ProcessEvent, ProcessEventKind, ProcessType};
use hax_driver::libmotr::{self, Config, Libmotr, StopOutcome};
use motr_sys::fake::{self, FakeLibrary};

pub(crate) const OWN: Fid = Fid::process(1);
pub(crate) const PEER: Fid = Fid::process(2);
pub(crate) const OTHER: Fid = Fid::process(3);

pub(crate) const SERVICES: Services = Services { ha: Fid::service(1), rm: Fid::service(2) };

pub(crate) fn key(fid: Fid) -> (u64, u64) {
    (fid.container, fid.key)
}

pub(crate) fn entrypoint() -> Arc<Entrypoint> {
    let confd =
        |key| Confd { fid: Fid::service(key), endpoint: format!("inet:tcp:10.0.0.1@{key}").into() };
    Arc::new(Entrypoint {
        quorum: 2,
        confds: [11, 12].map(confd).into(),
        rm: Fid::service(13),
        rm_endpoint: "inet:tcp:10.0.0.1@13".into(),
    })
}

pub(crate) fn message(body: Body) -> Message {
    Message { fid: PEER, time: WallClock(1), ..Message::new(WallClock(1), body) }
}

pub(crate) fn event(kind: ProcessEventKind) -> Message {
    message(Body::Process(ProcessEvent { event: kind, kind: ProcessType::M0d, pid: 7 }))
}

pub(crate) fn states(kind: NvecKind, n: u64, state: ObjectState) -> Message {
    let notes = (0..n).map(|key| Note { fid: Fid::service(key), state }).collect();
    message(Body::Nvec(Box::new(Nvec { kind, id_of_get: 5, ignore_same_state: 1, notes })))
}

pub(crate) fn limit(mut done: impl FnMut() -> bool) -> bool {
    (0..30_000).any(|_| {
        let over = done();
        if !over {
            thread::park_timeout(Duration::from_millis(1));
        }
        over
    })
}

/// The running and started glue: our own request is answered.
pub(crate) struct Rig {
    pub(crate) motr: Libmotr,
    pub(crate) library: FakeLibrary,
}

impl Rig {
    pub(crate) fn begin(library: FakeLibrary) -> Self {
        let config = Config::of(OWN, SERVICES, "inet:tcp:127.0.0.1@22001");
        Self { motr: Libmotr::start(library.ha(), library.spiel(), config, || {}), library }
    }

    pub(crate) fn new() -> Self {
        let rig = Self::begin(FakeLibrary::new());
        rig.admit();
        rig
    }

    /// Answers the entrypoint request of our own start.
    pub(crate) fn admit(&self) {
        let entry = self.asked(OWN, true);
        self.reply(entry, Ok(entrypoint()));
        assert!(matches!(self.event(), Event::LinkUp { process: OWN, .. }));
        self.library.own_link();
    }

    pub(crate) fn event(&self) -> Event {
        let mut event = None;
        assert!(
            limit(|| {
                event = self.motr.events().try_recv().ok();
                event.is_some()
            }),
            "no event"
        );
        event.expect("an event")
    }

    pub(crate) fn asked(&self, process: Fid, first: bool) -> EntryId {
        match self.event() {
            Event::Asked(asked) => {
                assert_eq!((asked.process, asked.first), (process, first));
                assert!(asked.endpoint.starts_with("inet:tcp:"), "{asked:?}");
                asked.entry
            }
            event => panic!("{event:?} instead of a request"),
        }
    }

    pub(crate) fn reply(&self, entry: EntryId, reply: Result<Arc<Entrypoint>, Errno>) {
        self.motr.execute(Command::Reply { entry, reply });
    }

    /// Establishes a link to a new life of a process.
    pub(crate) fn link(&self, process: Fid, pid: u64) -> (LinkId, fake::Link) {
        self.library.ask(key(process), pid, true);
        let asked = self.asked(process, true);
        self.reply(asked, Ok(entrypoint()));
        match self.event() {
            Event::LinkUp { link, entry, process: up, reconnected } => {
                assert_eq!((entry, up, reconnected), (asked, process, false));
                (link, self.library.link(key(process), pid))
            }
            event => panic!("{event:?} instead of a link"),
        }
    }

    pub(crate) fn say(&self, link: fake::Link, message: &Message) -> u64 {
        self.library.say(link, |out| *out = *libmotr::message::write(message)).expect("it lives")
    }

    pub(crate) fn send(&self, send: u64, to: &[LinkId], message: Message) {
        let (send, message) = (SendId(send), Arc::new(message));
        self.motr.execute(Command::Send { send, to: to.into(), message, purpose: Purpose::States });
    }

    pub(crate) fn stop(self) {
        self.motr.execute(Command::Stop);
        assert_eq!(block_on(self.motr.ended()), StopOutcome::Stopped);
        self.library.finished();
    }
}
