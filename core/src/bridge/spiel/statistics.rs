//! Statistics recorded by the leader (`hax.md` 1.17).
//!
//! `stats/filesystem` is the space of the filesystem. `ioservices/…` are the bytes per user and pool version
//! of each I/O service. `bytecount/…` are their sums by the state of the pool version, without the share of
//! parity.
//!
//! The library gets one call at a time, and none before the reply to the last. The writes contain the lock's
//! check. A service that does not reply counts with its last values from Consul.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::Deserialize;

use crate::base::errno::Errno;
use crate::base::fid::Fid;
use crate::base::time::WallClock;
use crate::bridge::context::Cx;
use crate::bridge::continuation::{Continuation, SpielContinuation, StatCall, StatKind, Timer};
use crate::bridge::process::ops::leads;
use crate::cluster::Cluster;
use crate::consul::json::{Elements, KvEntry};
use crate::consul::op::Op;
use crate::consul::port;
use crate::consul::url;
use crate::ha::fact::Fact;
use crate::ha::note::ObjectState;
use crate::ha::spiel::{self, Filesystem, Pver};
use crate::store::txn::{self, Outcome};

/// The factor between the interval of regular runs and that of retries after a failure.
const SOONER: u32 = 10;
/// The states of pool versions (`conf/pvers.h`, `m0_conf_pver_state`).
const STATES: [&str; 4] = ["healthy", "degraded", "critical", "damaged"];

type Values = BTreeMap<Box<str>, Box<str>>;

/// The stage of the recording.
#[derive(Debug, Default)]
enum StatStage {
    #[default]
    Idle,
    /// The library returns the filesystem's space.
    Filesystem,
    /// The library returns the counters of `of`; `left` follow.
    Counters { of: Fid, left: Vec<Fid>, found: Values },
    /// Consul returns the counters recorded before.
    Reading { found: Values },
    /// The counters read from Consul are processed in slices.
    Sorting { elements: Elements, found: Values, bytes: BTreeMap<Fid, u64> },
    /// The library returns the state of the pool version `of`; `left` follow.
    Pvers { of: (Fid, u64), left: Vec<(Fid, u64)>, changed: Values, sums: [u64; STATES.len()] },
    /// Consul stores the results; the first `sent` operations are in flight.
    Writing { ops: VecDeque<Op>, sent: usize },
}

#[derive(Debug)]
pub(crate) struct Statistics {
    due: [bool; 2],
    /// The statistics being recorded.
    which: StatKind,
    stage: StatStage,
    /// A call to the library is in flight, even if its result is not needed any more.
    asked: bool,
}

impl Default for Statistics {
    fn default() -> Self {
        Self { due: [true; 2], which: StatKind::Filesystem, stage: StatStage::Idle, asked: false }
    }
}

impl StatKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Filesystem => "stats/filesystem",
            Self::ByteCount => "bytecount",
        }
    }

    fn every(self, cx: &Cx<'_>) -> core::time::Duration {
        match self {
            Self::Filesystem => cx.config().time.filesystem,
            Self::ByteCount => cx.config().time.bytecount,
        }
    }
}

impl Statistics {
    /// Marks statistics as due.
    pub(crate) fn is_due(&mut self, cx: &mut Cx<'_>, which: StatKind) {
        self.due[which as usize] = true;
        if self.asked && self.which == which {
            let every = which.every(cx);
            cx.arm(Timer::Statistics(which), every);
            let why = "Motr's library has not answered since the last time".into();
            cx.fact(Fact::StatisticsFailed { what: which.name(), why });
        }
    }

    /// Continues the recording. A new leader begins at once.
    pub(crate) fn work(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &Cluster,
        holds: bool,
        session: Option<&str>,
    ) {
        if !holds {
            return self.stop(cx);
        }
        match &self.stage {
            StatStage::Idle if !self.asked && self.due != [false; 2] => self.begin(cx, cluster),
            StatStage::Sorting { .. } => self.sort(cx),
            StatStage::Writing { sent: 0, .. } => self.write(cx, session),
            StatStage::Idle
            | StatStage::Filesystem
            | StatStage::Counters { .. }
            | StatStage::Reading { .. }
            | StatStage::Pvers { .. }
            | StatStage::Writing { .. } => {}
        }
    }

    /// Aborts the recording. All statistics are due when this node leads again.
    pub(crate) fn stop(&mut self, cx: &mut Cx<'_>) {
        if self.due == [true; 2] && matches!(self.stage, StatStage::Idle) {
            return;
        }
        (self.due, self.stage) = ([true; 2], StatStage::Idle);
        cx.cancel_where(|job| matches!(job, Continuation::Statistics(_)));
        for which in [StatKind::Filesystem, StatKind::ByteCount] {
            cx.disarm(Timer::Statistics(which));
        }
    }

    fn begin(&mut self, cx: &mut Cx<'_>, cluster: &Cluster) {
        for which in [StatKind::Filesystem, StatKind::ByteCount] {
            let every = which.every(cx);
            if !core::mem::take(&mut self.due[which as usize]) || every.is_zero() {
                continue;
            }
            self.which = which;
            let ios = cluster.conf().processes().filter(|(_, process)| process.ios);
            // A service of a Motr without DTM stays in recovery for ever, and serves.
            let online = |fid: &Fid| {
                matches!(cluster.state(*fid), ObjectState::Online | ObjectState::DtmRecovering)
            };
            let (online, rest): (Vec<Fid>, Vec<Fid>) = ios.map(|(fid, _)| fid).partition(online);
            // The totals of the filesystem need the counts of all services.
            let tells = which == StatKind::ByteCount || (rest.is_empty() && !online.is_empty());
            cx.arm(Timer::Statistics(which), if tells { every } else { every / SOONER });
            match which {
                _ if !tells => continue,
                StatKind::Filesystem => self.ask(cx, spiel::Op::Filesystem, StatStage::Filesystem),
                StatKind::ByteCount => self.count(cx, online, Values::new()),
            }
            return;
        }
    }

    fn ask(&mut self, cx: &mut Cx<'_>, op: spiel::Op, stage: StatStage) {
        self.asked = true;
        self.stage = stage;
        cx.ask(SpielContinuation::Statistics, op);
    }

    /// Gives up this run and schedules the next.
    fn fail(&mut self, cx: &mut Cx<'_>, why: Box<str>) {
        cx.fact(Fact::StatisticsFailed { what: self.which.name(), why });
        self.stage = StatStage::Idle;
        let pause = self.which.every(cx) / SOONER;
        cx.arm(Timer::Statistics(self.which), pause);
    }

    /// Handles the library's reply.
    pub(crate) fn on_reply(&mut self, cx: &mut Cx<'_>, result: Result<spiel::Answer, Errno>) {
        self.asked = false;
        match (core::mem::take(&mut self.stage), result) {
            (StatStage::Filesystem, Ok(spiel::Answer::Filesystem(space))) => {
                let value = filesystem(&space, cx.now().wall);
                let op = Op::set("stats/filesystem", value.as_bytes());
                self.stage = StatStage::Writing { ops: VecDeque::from([op]), sent: 0 };
            }
            (
                StatStage::Counters { of, left, mut found },
                Ok(spiel::Answer::Counters(counters)),
            ) => {
                found.extend(counters.iter().map(|counter| row(of, counter)));
                self.count(cx, left, found);
            }
            (StatStage::Counters { of, left, found }, Err(errno)) => {
                let why = format!("{of}: {errno}").into();
                cx.fact(Fact::StatisticsFailed { what: self.which.name(), why });
                self.count(cx, left, found);
            }
            (StatStage::Pvers { of, left, changed, mut sums }, Ok(spiel::Answer::Pver(pver))) => {
                if let Some(sum) = sums.get_mut(pver.state as usize) {
                    *sum = sum.saturating_add(without_parity(of.1, pver));
                }
                self.compare(cx, left, changed, sums);
            }
            // The pool version is not configured any more.
            (StatStage::Pvers { left, changed, sums, .. }, Err(Errno::ENOENT)) => {
                self.compare(cx, left, changed, sums);
            }
            (StatStage::Idle, _) => {}
            // A partial sum would be mistaken for the total.
            (_, Err(errno)) => self.fail(cx, format!("{errno}").into()),
            (_, Ok(_)) => self.fail(cx, "an answer of another kind".into()),
        }
    }

    /// Calls the next service, or reads the recorded counters of all services from Consul.
    fn count(&mut self, cx: &mut Cx<'_>, mut left: Vec<Fid>, found: Values) {
        if let Some(of) = left.pop() {
            let stage = StatStage::Counters { of, left, found };
            self.ask(cx, spiel::Op::Counters { process: of }, stage);
        } else {
            self.stage = StatStage::Reading { found };
            let target = url::consistent(url::tree("ioservices/"));
            cx.get(Continuation::Statistics(StatCall::Read), target);
        }
    }

    /// Handles Consul's reply.
    pub(crate) fn on_answer(
        &mut self,
        cx: &mut Cx<'_>,
        part: StatCall,
        answer: Option<&port::Answer>,
    ) {
        match part {
            StatCall::Read => self.on_read(cx, answer),
            StatCall::Write => self.on_written(cx, answer),
        }
    }

    fn on_read(&mut self, cx: &mut Cx<'_>, answer: Option<&port::Answer>) {
        let body = answer.and_then(|answer| match answer.status {
            200 => Some(answer.body.clone()),
            404 => Some(Bytes::from_static(b"[]")),
            _ => None,
        });
        match (core::mem::take(&mut self.stage), body) {
            (StatStage::Reading { found }, Some(body)) => {
                let (elements, bytes) = (Elements::new(body), BTreeMap::new());
                self.stage = StatStage::Sorting { elements, found, bytes };
            }
            _ => self.fail(cx, "Consul does not answer".into()),
        }
    }

    fn on_written(&mut self, cx: &mut Cx<'_>, answer: Option<&port::Answer>) {
        match (core::mem::take(&mut self.stage), Outcome::of(answer)) {
            (StatStage::Writing { mut ops, sent }, Outcome::Applied(_)) => {
                ops.drain(..sent);
                if ops.is_empty() {
                    cx.fact(Fact::StatisticsStored { what: self.which.name() });
                } else {
                    self.stage = StatStage::Writing { ops, sent: 0 };
                }
            }
            (_, Outcome::Conflict(_)) => self.fail(cx, "another node has the lock".into()),
            (_, Outcome::Denied(why)) => self.fail(cx, why),
            (_, Outcome::Applied(_) | Outcome::Unknown(_)) => {
                self.fail(cx, "Consul does not answer".into());
            }
        }
    }

    /// Processes one slice of the recorded counters: it selects the changed counters for writing and sums up
    /// the bytes of each pool version.
    fn sort(&mut self, cx: &mut Cx<'_>) {
        let StatStage::Sorting { mut elements, mut found, mut bytes } =
            core::mem::take(&mut self.stage)
        else {
            return;
        };
        for _ in 0..cx.config().limit.entries_per_slice {
            match elements.next::<KvEntry<'_>>() {
                Some(Ok(entry)) => {
                    let Some(pver) = pver_in(&entry.key) else { continue };
                    let held = entry.bytes().unwrap_or_default();
                    if found.get(&*entry.key).is_some_and(|now| now.as_bytes() == held) {
                        found.remove(&*entry.key);
                    } else if found.contains_key(&*entry.key) {
                        continue;
                    }
                    add(&mut bytes, pver, &held);
                }
                Some(Err(why)) => return self.fail(cx, why),
                None => {
                    for (key, value) in &found {
                        pver_in(key).into_iter().for_each(|p| add(&mut bytes, p, value.as_bytes()));
                    }
                    let left = bytes.into_iter().collect();
                    return self.compare(cx, left, found, [0; STATES.len()]);
                }
            }
        }
        self.stage = StatStage::Sorting { elements, found, bytes };
        cx.arm(Timer::StatisticsSlice, core::time::Duration::from_micros(1));
    }

    /// Queries the state of the next pool version. After the last one, the results are ready to be written,
    /// the sums last.
    fn compare(
        &mut self,
        cx: &mut Cx<'_>,
        mut left: Vec<(Fid, u64)>,
        changed: Values,
        sums: [u64; STATES.len()],
    ) {
        if let Some(of) = left.pop() {
            let stage = StatStage::Pvers { of, left, changed, sums };
            return self.ask(cx, spiel::Op::Pver { pver: of.0 }, stage);
        }
        let rows = changed.iter().map(|(key, value)| Op::set(key, value.as_bytes()));
        let sums = STATES.iter().zip(sums).map(|(state, sum)| {
            Op::set(&format!("bytecount/{state}"), format!("{sum}").as_bytes())
        });
        self.stage = StatStage::Writing { ops: rows.chain(sums).collect(), sent: 0 };
    }

    /// Sends as many operations as a transaction holds, if this node certainly leads.
    fn write(&mut self, cx: &mut Cx<'_>, session: Option<&str>) {
        let (StatStage::Writing { ops, sent }, Some(session)) = (&mut self.stage, session) else {
            return;
        };
        let limit = &cx.config().limit;
        // The lock's check is added.
        let (most, bytes) = (limit.transaction_ops - 1, limit.transaction_bytes - 1024);
        *sent = txn::Limits { ops: most, bytes }.fitting(&*ops);
        let lock = leads(session);
        let ops = core::iter::once(&lock).chain(ops.range(..*sent));
        txn::send(cx, Continuation::Statistics(StatCall::Write), ops);
    }
}

/// Returns the value of `stats/filesystem` in the old daemon's format.
fn filesystem(space: &Filesystem, wall: WallClock) -> Box<str> {
    let Filesystem { free_seg, total_seg, free_disk, avail_disk, total_disk, .. } = space;
    let Filesystem { svc_total, svc_replied, .. } = space;
    let (seconds, us) = (wall.0 / 1_000_000_000, wall.0 / 1_000 % 1_000_000);
    let date = format!("{wall}").replacen(' ', "T", 1);
    format!(
        r#"{{"stats": {{"fs_free_seg": {free_seg}, "fs_total_seg": {total_seg}, "fs_free_disk": {free_disk}, "fs_avail_disk": {avail_disk}, "fs_total_disk": {total_disk}, "fs_svc_total": {svc_total}, "fs_svc_replied": {svc_replied}}}, "timestamp": {seconds}.{us:06}, "date": "{date}"}}"#
    )
    .into()
}

/// Returns the key and the value of a counter.
fn row(process: Fid, counter: &spiel::Counter) -> (Box<str>, Box<str>) {
    let spiel::Counter { pver, user, bytes, objects } = counter;
    let key = format!("ioservices/{process}/pvers/{pver}/users/{user}");
    (key.into(), format!(r#"{{"bc": {bytes}, "object_cnt": {objects}}}"#).into())
}

/// Returns the pool version in the key of a counter.
fn pver_in(key: &str) -> Option<Fid> {
    let (_, rest) = key.strip_prefix("ioservices/")?.split_once("/pvers/")?;
    rest.split_once("/users/")?.0.parse().ok()
}

fn add(sums: &mut BTreeMap<Fid, u64>, pver: Fid, value: &[u8]) {
    #[derive(Deserialize)]
    struct Count {
        bc: u64,
    }
    if let Ok(Count { bc }) = serde_json::from_slice(value) {
        let sum = sums.entry(pver).or_default();
        *sum = sum.saturating_add(bc);
    }
}

/// Returns a pool version's bytes without the share of its parity units.
fn without_parity(bytes: u64, Pver { data_units, parity_units, .. }: Pver) -> u64 {
    let units = u64::from(data_units) + u64::from(parity_units);
    if units == 0 {
        return bytes;
    }
    bytes.saturating_sub(bytes.div_ceil(units).saturating_mul(parity_units.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_parity_is_left_out() {
        let of = |n, k| Pver { state: 0, data_units: n, parity_units: k };
        assert_eq!(without_parity(4096, of(1, 0)), 4096);
        assert_eq!(without_parity(6144, of(4, 2)), 4096);
        assert_eq!(without_parity(7, of(4, 2)), 3, "a unit that is begun counts whole");
        assert_eq!(without_parity(1, of(1, 9)), 0);
        assert_eq!(without_parity(9, of(0, 0)), 9);
        assert_eq!(
            without_parity(u64::MAX, of(1, u32::MAX)),
            u64::MAX - (1 << 32) * (u64::from(u32::MAX))
        );
    }

    #[test]
    fn the_keys_and_values_are_those_of_the_old_daemon() {
        let (process, pver) = (Fid::process(0x20), Fid::typed(b'v', 1, 6));
        let counter = spiel::Counter { pver, user: 1, bytes: 4096, objects: 1 };
        let (key, value) = row(process, &counter);
        assert_eq!(
            &*key,
            "ioservices/0x7200000000000001:0x20/pvers/0x7600000000000001:0x6/users/1"
        );
        assert_eq!(&*value, r#"{"bc": 4096, "object_cnt": 1}"#);
        assert_eq!(pver_in(&key), Some(pver));
        for odd in ["ioservices/x", "ioservices/a/pvers/b/users/1", "ioservices/a/pvers/0x1:0x1"] {
            assert_eq!(pver_in(odd), None, "{odd}");
        }
        let space =
            Filesystem { free_seg: 1, svc_total: 2, svc_replied: 1, ..Filesystem::default() };
        let text = filesystem(&space, WallClock(1_795_243_244_023_456_789));
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["stats"]["fs_free_seg"], 1);
        assert_eq!(value["stats"].as_object().map(serde_json::Map::len), Some(7));
        assert_eq!(value["date"], "2026-11-21T06:40:44.023456");
        assert!(text.contains(r#""timestamp": 1795243244.023456"#), "{text}");
    }
}
