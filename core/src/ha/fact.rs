//! The facts of the bridge and the wire.

use alloc::boxed::Box;
use core::net::IpAddr;
use core::time::Duration;

use crate::base::errno::Errno;
use crate::base::fact::{Kind, Metric, Report};
use crate::base::fid::Fid;
use crate::base::id::{CallId, ConnId, EntryId, HttpId, LinkId, MsgId, SendId};

crate::facts! {
    // ---- wire: connections, sessions, links -------------------------------------------------
    /// A peer opened a connection.
    Debug ConnAccepted { conn: ConnId, peer: IpAddr } "{conn}: accepted from {peer}";
    /// A connection was closed by either side.
    Debug ConnClosed { conn: ConnId } "{conn}: closed";
    /// A peer connected and sent nothing.
    Debug ConnSilent { conn: ConnId, peer: IpAddr } "{conn}: closed, the peer at {peer} said nothing";
    /// A peer sent bytes that are not a frame, or an incomplete frame; its connection is closed.
    Warn BadFrame { conn: ConnId, peer: IpAddr, why: &'static str } "{conn}: closed, the peer at {peer} sent a bad frame: {why}";
    /// A packet could not be decoded completely; the rest of it was dropped.
    Warn BadPacket { conn: ConnId, why: &'static str } "{conn}: rest of a packet dropped: {why}";
    /// An item with an unsupported operation was ignored.
    Warn UnknownOpcode { conn: ConnId, opcode: u32 } "{conn}: ignored an item with the unknown opcode {opcode}";
    /// An invalid item was ignored; no real peer sends it.
    Warn BadItem { conn: ConnId, why: &'static str } "{conn}: ignored an item: {why}";
    /// A connection was closed because there are too many.
    Warn ConnsFull { conn: ConnId, peer: IpAddr } "{conn}: closed, there are too many connections; this one is from {peer}";
    /// A peer claims an impossible listening address.
    Warn NotItsAddress { conn: ConnId, peer: IpAddr } "{conn}: closed, the peer at {peer} claims an address that is not its own";
    /// An unconfigured process requests its entrypoint.
    Warn StrangerRefused { conn: ConnId, peer: IpAddr, process: Fid } "{conn}: closed, {process} at {peer} is not in m0conf (any_process = true lets it in)";
    /// A peer does not read the bytes written to it.
    Warn BacklogFull { conn: ConnId } "{conn}: dropped what was to be written, the peer does not read";
    /// A message arrived for an unknown link. Its sender gets an error and requests its entrypoint.
    Info LinkUnknown { conn: ConnId, rc: i32 } "{conn}: a message for an unknown link, answered {rc}";
    /// The limit of unacknowledged messages of a link is reached.
    Warn UnackedFull { link: LinkId } "{link}: dropped a message, too many are not acknowledged; it will come again";
    /// The limit of messages waiting for a link is reached.
    Warn QueueFull { link: LinkId, send: SendId } "{link}: {send} refused, too many messages wait";
    /// A peer confirms messages without having received them.
    Warn BadDelivered { link: LinkId, told: u64 } "{link}: the peer acknowledged messages below tag {told} that were not sent; ignored";
    /// A message has had no reply for some seconds; it will be sent again.
    Debug LinkSilent { link: LinkId } "{link}: no answer to a message, it will be sent again";
    /// The peer refused a message; it will be sent again.
    Debug LinkRefused { link: LinkId, rc: i32 } "{link}: a message was answered {rc}, it will be sent again";
    /// The limit of links is reached; this one is dropped.
    Warn LinkEvicted { link: LinkId, process: Fid } "{link}: dropped, there are too many links; {process} will reconnect";
    /// The limit of waiting entrypoint requests is reached.
    Warn EntriesFull { conn: ConnId } "{conn}: dropped an entrypoint request, too many wait; it will come again";
    /// A reply has the id of an unknown entrypoint request.
    Warn EntryUnknown { entry: EntryId } "{entry}: a reply to a request that does not wait for one";
    /// A reply is for a request of an earlier life of the process.
    Debug EntryOutdated { entry: EntryId, process: Fid } "{entry}: not answered, {process} has asked again since";
    /// A message was not sent because it cannot be encoded or would make its receiver abort.
    Error Unsendable { send: SendId } "{send}: not sent, its receivers would abort on it";
    /// A process has a link; messages can be exchanged.
    Info LinkUp { link: LinkId, process: Fid, reconnected: bool } "{link}: up with {process}{as_before}",
        as_before = if *reconnected { ", which had another one before" } else { "" };
    /// The peer of a link is unreachable for now.
    Info LinkDown { link: LinkId, process: Fid } "{link}: {process} is unreachable; its pending notes are kept for a while (link_grace)";
    /// The peer of a link is reachable again.
    Info LinkBack { link: LinkId, process: Fid } "{link}: {process} is back";
    /// A link has ended for good.
    Info LinkClosed { link: LinkId, process: Fid } "{link}: closed with {process}";

    // ---- bridge: entrypoints ----------------------------------------------------------------
    /// A process requests its entrypoint.
    Debug EntrypointAsked { entry: EntryId, process: Fid, first: bool } "{entry}: {process} asks for its entrypoint{when}",
        when = if *first { " for the first time in its life" } else { "" };
    /// An entrypoint request was answered. `LinkUp` reports the resulting link.
    Debug EntrypointAnswered { entry: EntryId, process: Fid, confds: u32, us: u64 } "{entry}: {process} {what} after {us} µs",
        what = match confds {
            0 => "is answered with an empty entrypoint, for hax is stopping,".into(),
            _ => alloc::format!("has its entrypoint with {confds} confds"),
        };
    /// An entrypoint request was answered with EAGAIN.
    Info EntrypointAgain { entry: EntryId, process: Fid } "{entry}: {process} is told to ask again (EAGAIN)";
    /// A stopping hax does not answer a process with a loaded configuration; the process repeats the request
    /// to the next run of hax.
    Debug EntrypointLeft { entry: EntryId, process: Fid } "{entry}: {process} asks again and is not answered, for hax is stopping; it will ask the next hax";
    /// Another round of reads for entrypoints failed for the same reason.
    Debug RoundFailsStill { why: &'static str } "entrypoints wait: {why}";
    /// A round of reads for entrypoints failed.
    Warn RoundFailed { why: &'static str } "entrypoints wait: {why}";

    // ---- bridge: links and messages ---------------------------------------------------------
    /// Notes were sent.
    Debug NotesSent { send: SendId, notes: u32, links: u32 } "{send}: {notes} notes to {links} links";
    /// A sent message was delivered.
    Trace Delivered { link: LinkId, send: SendId } "{link}: {send} delivered";
    /// A sent message was given up.
    Info Undelivered { link: LinkId, send: SendId } "{link}: a message was not delivered ({send})";
    /// The pending notes of a link were dropped because it was down for too long.
    Info OwedDropped { link: LinkId, process: Fid, notes: u32 } "{link}: {notes} pending notes for {process} are dropped; it gets all states if it returns";
    /// A service reports that a repair or rebalance failed (`ha/msg.h:m0_ha_sns_err`).
    Warn SnsFailed { link: LinkId, errcode: i32, opcode: u8 } "{link}: a repair or rebalance failed or had nothing to do: errno {errcode}, operation {opcode}";
    /// A message without any effect was acknowledged.
    Debug MessageIgnored { link: LinkId, kind: &'static str } "{link}: {kind} acknowledged and ignored";
    /// An invalid message was acknowledged without any effect.
    Warn MessageRefused { link: LinkId, why: &'static str } "{link}: a message was acknowledged and changed nothing: {why}";
    /// An unexpected message arrived: the specification demands a stop.
    Error MessageFatal { link: LinkId, kind: &'static str } "{link}: {kind} is unexpected: stopping (on_unexpected_message = \"ignore\" goes on)";
    /// A process requests states.
    Debug NvecAsked { link: LinkId, msg: MsgId, notes: u32 } "{link}: {msg} asks for {notes} states";
    /// A request for states was answered.
    Debug NvecAnswered { link: LinkId, msg: MsgId, notes: u32, us: u64 } "{link}: {msg} has {notes} states after {us} µs";
    /// A process event arrived.
    Info ProcessEvent { process: Fid, state: &'static str } "{process}: {state}";
    /// A process event is in Consul and acknowledged.
    Debug ProcessCommitted { process: Fid, state: &'static str, us: u64 } "{process}: {state} is in Consul after {us} µs";

    /// A process is dead according to health and alive according to its record; it is declared stopped.
    Warn ProcessDied { process: Fid, as_leader: bool } "{process}: {by}",
        by = if *as_leader { "its node fails or has left Consul's catalog, it is declared stopped by the leader" } else { "its checks fail, it is declared stopped by the hax of its node" };
    /// A process declared stopped lives: its checks pass again and it has not restarted.
    Warn ProcessLives { process: Fid } "{process}: it lives and has not restarted; it had been declared stopped because its checks failed or its node was away";
    /// The configuration has changed the kind of a process.
    Warn ProcessRetyped { process: Fid, from: &'static str, to: &'static str } "{process}: m0conf made it a {to}, it was a {from}";
    /// The configuration contains contradictory keys.
    Warn ConfContradicts { kept: Box<str>, other: Box<str>, why: &'static str } "m0conf contradicts itself: {kept} and {other}: {why}; delete the one that is left over";
    /// Our own node is not in Consul's catalog.
    Warn NodeMissing { node: Box<str> } "Consul's catalog has no node {node}: until its agent registers it again (up to a minute after it has joined), nobody sees the checks of its processes; those with a link are known to live";
    /// Our own node is in the catalog again.
    Info NodeBack {} "Consul's catalog has our node again";
    /// A process has begun a new life without reporting the end of the last one.
    Info ProcessRestarted { process: Fid } "{process}: restarted; the others hear that its last life is over";
    /// Devices have changed their state.
    Info DevicesSet { notes: u32 } "{notes} devices have a new state{other}",
        other = if *notes == 0 { ": what was set is of none, or as it was" } else { "" };

    // ---- bridge: leader and queue -----------------------------------------------------------
    /// This node has become a candidate for the leader.
    Info LeaderStands {} "standing for election";
    /// This node has acquired the lock.
    Info LeaderWon {} "this node leads";
    /// This node has released the lock.
    Info LeaderLeft { why: &'static str } "this node resigns as leader: {why}";
    /// This node has lost the lock.
    Warn LeaderLost { why: &'static str } "this node does not lead any more: {why}";
    /// The session of a lock was destroyed: the lock had no owner, or an earlier owner with our name.
    Info LeaderStale { value: Box<str> } "the lock is stale, with the value {value:?}; its session is destroyed";
    /// A message of the broadcast queue was processed.
    Debug QueueWorked { n: u64 } "bq/{n}: processed";
    /// A message of the broadcast queue could not be processed.
    Warn QueueSkipped { n: u64, why: Box<str> } "bq/{n}: skipped: {why}";
    /// The broadcast queue was purged.
    Info QueuePurged { entries: u32 } "bq: {entries} old entries removed";

    // ---- bridge: Motr's library -------------------------------------------------------------
    /// Motr's library has read the configuration.
    Info SpielUp {} "Motr's library has read the configuration: pools can be repaired and rebalanced";
    /// Motr's library cannot read the configuration yet.
    Warn SpielFailed { errno: Errno } "Motr's library cannot read the configuration: {errno}; hax tries again";
    /// An operation on a pool has begun.
    Info SnsBegun { pool: Fid, op: &'static str } "{pool}: {op} begins";
    /// An operation on a pool is complete.
    Info SnsEnded { pool: Fid, op: &'static str, us: u64 } "{pool}: {op} is done after {us} µs";
    /// Motr's library refused an operation on a pool.
    Warn SnsRefused { pool: Fid, op: &'static str, errno: Errno } "{pool}: Motr's library refuses {op}: {errno}";
    /// An HTTP request waits no longer for an operation on a pool; the operation stays in progress.
    Warn SnsLate { pool: Fid, op: &'static str, seconds: u64 } "{pool}: {op} has had no answer for {seconds} s; it stays in progress";
    /// Statistics are stored in Consul.
    Debug StatisticsStored { what: &'static str } "{what}: recorded";
    /// Statistics, or a part of them, could not be recorded.
    Warn StatisticsFailed { what: &'static str, why: Box<str> } "{what}: not recorded: {why}";

    // ---- bridge: Consul ---------------------------------------------------------------------
    /// Consul responds (again).
    Info ConsulBack {} "Consul answers";
    /// Consul did not respond, or responded with an error.
    Warn ConsulFailed { call: CallId, what: &'static str, why: Box<str> } "{call}: {what}: {why}";
    /// The last failure of Consul persists.
    Debug ConsulFailsStill { call: CallId, what: &'static str, why: Box<str> } "{call}: {what}: {why}";
    /// Consul's access control denies a request. The host logs it once, with the source of the token.
    Debug ConsulRefuses { call: CallId, what: &'static str, why: Box<str> } "{call}: {what}: refused: {why}";
    /// A response of Consul could not be decoded.
    Warn ConsulBadAnswer { what: &'static str, why: Box<str> } "Consul's answer to {what} is not understood: {why}";
    /// A transaction conflicted with another writer; the keys are read again.
    Info WriteConflict { key: Box<str> } "{key}: another writer was faster; it is read again";
    /// A replica is loaded.
    Info ReplicaLoaded { table: &'static str, index: u64, entries: u32 } "{table}: loaded at index {index} with {entries} entries";
    /// A replica's index went backwards; it is read again.
    Warn ReplicaReset { table: &'static str, from: u64, to: u64 } "{table}: Consul's index went from {from} to {to}; reading anew";
    /// The token may not read a table.
    Warn TableUnreadable { table: &'static str, entries: u32 } "{table}: hax's token may not read it: not ready until it may; {entries} entries that were read before are kept";
    /// A required table is empty.
    Warn TableEmpty { table: &'static str, entries: u32 } "{table}: there is nothing in Consul: not ready until there is; {entries} entries that were read before are kept";
    /// Consul shows a table again.
    Info TableShown { table: &'static str } "{table}: Consul shows it again";
    /// The configuration does not contain our own process.
    Warn ProcessMissing { process: Fid } "m0conf has no process {process}, which this hax is by its settings, or by the service hax of its node: not ready until it has";
    /// The configuration contains our own process again.
    Info ProcessFound { process: Fid } "m0conf has the process {process} of this hax";
    /// A watch has not delivered a change already known to another server.
    Info WatchHangs { table: &'static str } "{table}: Consul's servers seem to have no leader, or another one; the table is read with stale queries meanwhile";
    /// A reply arrived for a cancelled call.
    Debug LateAnswer { call: CallId } "{call}: its answer came after it was given up";
    /// A malformed entry in Consul is skipped.
    Warn EntrySkipped { key: Box<str> } "skipped: the key {key} in Consul is not of the expected form";

    // ---- bridge: HTTP -----------------------------------------------------------------------
    /// The payload of a watch was processed.
    Debug WatchPost { http: HttpId, checks: u32 } "{http}: {checks} checks from a watch";
    /// A posted check is newer than Consul itself and is dropped.
    Warn PostDistrusted { table: &'static str, index: u64 } "{table}: what was posted is newer than Consul, which is at index {index}: it is dropped and the table read anew";
    /// A request was refused.
    Info HttpRefused { http: HttpId, status: u16, why: Box<str> } "{http}: refused with {status}: {why}";

    // ---- bridge: life -----------------------------------------------------------------------
    /// All prerequisites of the bridge are available.
    Info Ready {} "ready: Consul answers and the configuration is loaded";
    /// A stop has begun.
    Info Stopping {} "stopping: the work in progress is finished first";
    /// The stop took too long; the remaining work is abandoned.
    Warn DrainTimedOut { lanes: u32 } "stopping: the time is over; events of {lanes} processes are not written, their senders will send them again";
    /// The stop is complete.
    Info Stopped {} "stopped";
    /// The node's inputs are not recorded any more.
    Warn JournalEnded { why: Box<str> } "the journal ends, hax goes on: {why}";

    // ---- wire: links that outlive hax --------------------------------------------------------
    /// A link of the last life of hax was taken over.
    Info LinkKept { link: LinkId, process: Fid } "{link}: taken over from the last life of hax, with {process}";
    /// Links of the last life could not be taken over.
    Warn LinksLost { links: u32, why: &'static str } "{links} links of the last life of hax are lost: {why}; a process without a link has one again when it next says something";
    /// A process contradicts the kept state of its link, which has ended.
    Warn LinkContradicted { link: LinkId, process: Fid, why: &'static str } "{link}: ended, the kept state does not fit {process}: {why}; it has a link again when it next says something";
}

impl Report for Fact {
    const KINDS: &'static [Kind] = FactKind::KINDS;

    const LATENCIES: &'static [Metric] = &[
        Metric {
            name: "hax_entrypoint_duration_seconds",
            help: "From an entrypoint request to its answer.",
        },
        Metric {
            name: "hax_process_event_duration_seconds",
            help: "From a process event's arrival to its commit in Consul.",
        },
        Metric {
            name: "hax_nvec_get_duration_seconds",
            help: "From a question for states to its answer.",
        },
    ];

    fn nth(&self) -> usize {
        self.kind() as usize
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "few facts have a duration")]
    fn took(&self) -> Option<(usize, Duration)> {
        let (nth, us) = match *self {
            // An empty entrypoint is not a real answer.
            Self::EntrypointAnswered { us, confds: 1.., .. } => (0, us),
            Self::ProcessCommitted { us, .. } => (1, us),
            Self::NvecAnswered { us, .. } => (2, us),
            _ => return None,
        };
        Some((nth, Duration::from_micros(us)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_is_a_line_and_a_counter() {
        let fact = Fact::LinkUp { link: LinkId(3), process: Fid::process(4), reconnected: false };
        assert_eq!(alloc::format!("{fact}"), "link-3: up with 0x7200000000000001:0x4");
        assert_eq!(fact.kind().name(), "LinkUp");
        assert_eq!(FactKind::ALL[fact.kind() as usize], fact.kind());
        let empty = Fact::EntrypointAnswered {
            entry: EntryId(1),
            process: Fid::process(4),
            confds: 0,
            us: 9,
        };
        let text = alloc::format!("{empty}");
        assert!(text.contains("empty") && text.contains("stopping"), "{text}");
        assert_eq!(empty.took(), None, "it says nothing of how long entrypoints take");
        assert!(size_of::<Fact>() <= 56, "{}", size_of::<Fact>());
    }
}
