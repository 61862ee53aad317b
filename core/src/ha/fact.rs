//! What the bridge and the wire report that they did or saw.

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
    /// A connection ended, by whichever side.
    Debug ConnClosed { conn: ConnId } "{conn}: closed";
    /// A peer connected and said nothing.
    Debug ConnSilent { conn: ConnId, peer: IpAddr } "{conn}: closed, the peer at {peer} said nothing";
    /// A peer sent bytes that are no frame, or never the rest of one; its connection is closed.
    Warn BadFrame { conn: ConnId, peer: IpAddr, why: &'static str } "{conn}: closed, the peer at {peer} sent a bad frame: {why}";
    /// A packet could not be read to its end; the rest of it was dropped.
    Warn BadPacket { conn: ConnId, why: &'static str } "{conn}: rest of a packet dropped: {why}";
    /// An item with an operation that nobody here serves was ignored.
    Warn UnknownOpcode { conn: ConnId, opcode: u32 } "{conn}: ignored an item with the unknown opcode {opcode}";
    /// An item that no real peer sends was ignored.
    Warn BadItem { conn: ConnId, why: &'static str } "{conn}: ignored an item: {why}";
    /// There are too many connections.
    Warn ConnsFull { conn: ConnId, peer: IpAddr } "{conn}: closed, there are too many connections; this one is from {peer}";
    /// A peer says that it listens where it cannot.
    Warn NotItsAddress { conn: ConnId, peer: IpAddr } "{conn}: closed, the peer at {peer} claims an address that is not its own";
    /// A process that the configuration does not know asks for its entrypoint.
    Warn StrangerRefused { conn: ConnId, peer: IpAddr, process: Fid } "{conn}: closed, {process} at {peer} is not in m0conf (any_process = true lets it in)";
    /// A peer does not read what is written to it.
    Warn BacklogFull { conn: ConnId } "{conn}: dropped what was to be written, the peer does not read";
    /// A message came for a link that is not known; its sender is told, and asks for its entrypoint.
    Info LinkUnknown { conn: ConnId, rc: i32 } "{conn}: a message for an unknown link, answered {rc}";
    /// More messages are received and not acknowledged than are kept.
    Warn UnackedFull { link: LinkId } "{link}: dropped a message, too many are not acknowledged; it will come again";
    /// More messages wait for a link than are kept.
    Warn QueueFull { link: LinkId, send: SendId } "{link}: {send} refused, too many messages wait";
    /// A peer says that it has taken in what it cannot have.
    Warn BadDelivered { link: LinkId, told: u64 } "{link}: ignored that all below tag {told} is delivered";
    /// A message has had no answer for some seconds; it will be sent again.
    Debug LinkSilent { link: LinkId } "{link}: no answer to a message, it will be sent again";
    /// The peer refused a message; it will be sent again.
    Debug LinkRefused { link: LinkId, rc: i32 } "{link}: a message was answered {rc}, it will be sent again";
    /// There are more links than are kept; this one is dropped.
    Warn LinkEvicted { link: LinkId, process: Fid } "{link}: dropped, there are too many links; {process} will reconnect";
    /// More entrypoint requests wait than are kept.
    Warn EntriesFull { conn: ConnId } "{conn}: dropped an entrypoint request, too many wait; it will come again";
    /// A reply names an entrypoint request that does not wait for any.
    Warn EntryUnknown { entry: EntryId } "{entry}: a reply to a request that does not wait for one";
    /// A reply to a request of a life of the process that is over.
    Debug EntryOutdated { entry: EntryId, process: Fid } "{entry}: not answered, {process} has asked again since";
    /// A message that has no form on the wire, or would make its receiver abort, was not sent.
    Error Unsendable { send: SendId } "{send}: not sent, its receivers could not bear it";
    /// A process has a link; messages may flow.
    Info LinkUp { link: LinkId, process: Fid, reconnected: bool } "{link}: up with {process}{as_before}",
        as_before = if *reconnected { ", which had another one before" } else { "" };
    /// The peer of a link is gone, for now.
    Info LinkDown { link: LinkId, process: Fid } "{link}: {process} is gone; what it is owed is kept for a while";
    /// The peer of a link is there again.
    Info LinkBack { link: LinkId, process: Fid } "{link}: {process} is back";
    /// A link has ended for good.
    Info LinkClosed { link: LinkId, process: Fid } "{link}: closed with {process}";

    // ---- bridge: entrypoints ----------------------------------------------------------------
    /// A process asks for its entrypoint.
    Debug EntrypointAsked { entry: EntryId, process: Fid, first: bool } "{entry}: {process} asks for its entrypoint{when}",
        when = if *first { " for the first time in its life" } else { "" };
    /// An entrypoint request has its answer. What comes of it is said by a link that is up.
    Debug EntrypointAnswered { entry: EntryId, process: Fid, confds: u32, us: u64 } "{entry}: {process} {what} after {us} µs",
        what = match confds {
            0 => "is answered with an empty entrypoint, for hax is stopping,".into(),
            _ => alloc::format!("has its entrypoint with {confds} confds"),
        };
    /// An entrypoint request was told to ask again.
    Info EntrypointAgain { entry: EntryId, process: Fid } "{entry}: {process} is told to ask again (EAGAIN)";
    /// A stopping hax leaves the request of a process that has its configuration to its next life.
    Debug EntrypointLeft { entry: EntryId, process: Fid } "{entry}: {process} asks again and is not answered, for hax is stopping; it asks the next one";
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
    /// Notes owed to a link were given up since it was away for too long.
    Info OwedDropped { link: LinkId, process: Fid, notes: u32 } "{link}: {notes} notes that {process} is owed count as not delivered; it is told all if it returns";
    /// A service says that a repair or rebalance went wrong (`ha/msg.h:m0_ha_sns_err`).
    Warn SnsFailed { link: LinkId, errcode: i32, opcode: u8 } "{link}: a repair or rebalance failed or had nothing to do: errno {errcode}, operation {opcode}";
    /// A message without consequence was acknowledged.
    Debug MessageIgnored { link: LinkId, kind: &'static str } "{link}: {kind} acknowledged and ignored";
    /// A message that cannot be right was acknowledged and changed nothing.
    Warn MessageRefused { link: LinkId, why: &'static str } "{link}: a message was acknowledged and changed nothing: {why}";
    /// A message on which the specification demands to stop.
    Error MessageFatal { link: LinkId, kind: &'static str } "{link}: {kind} is unexpected: stopping (on_unexpected_message = \"ignore\" goes on)";
    /// States were asked for.
    Debug NvecAsked { link: LinkId, msg: MsgId, notes: u32 } "{link}: {msg} asks for {notes} states";
    /// A question for states has its answer.
    Debug NvecAnswered { link: LinkId, msg: MsgId, notes: u32, us: u64 } "{link}: {msg} has {notes} states after {us} µs";
    /// A process event arrived.
    Info ProcessEvent { process: Fid, state: &'static str } "{process}: {state}";
    /// A process event is in Consul and acknowledged.
    Debug ProcessCommitted { process: Fid, state: &'static str, us: u64 } "{process}: {state} is in Consul after {us} µs";

    /// Health says that a process is dead while its word says that it lives; it is declared stopped.
    Warn ProcessDied { process: Fid, as_leader: bool } "{process}: {by}",
        by = if *as_leader { "its node fails or has left Consul's catalog, it is declared stopped by the leader" } else { "its checks fail, it is declared stopped by the hax of its node" };
    /// A process that had been declared stopped lives: its checks pass again and it never went away.
    Warn ProcessLives { process: Fid } "{process}: it lives and has not restarted; it had been declared stopped while only its checks, or its node, were away";
    /// The configuration makes a process another kind of process than before.
    Warn ProcessRetyped { process: Fid, from: &'static str, to: &'static str } "{process}: m0conf made it a {to}, it was a {from}";
    /// The configuration says two things that cannot both be meant.
    Warn ConfContradicts { kept: Box<str>, other: Box<str>, why: &'static str } "m0conf contradicts itself: {kept} and {other}: {why}; delete the one that is left over";
    /// Our own node is not in Consul's catalog.
    Warn NodeMissing { node: Box<str> } "Consul's catalog has no node {node}: until its agent registers it again (up to a minute after it has joined), nobody sees the checks of its processes; those with a link are known to live";
    /// Our own node is in the catalog again.
    Info NodeBack {} "Consul's catalog has our node again";
    /// A process has begun a new life without having ended the last.
    Info ProcessRestarted { process: Fid } "{process}: restarted; the others hear that its last life is over";
    /// Devices have changed their state.
    Info DevicesSet { notes: u32 } "{notes} devices have a new state{other}",
        other = if *notes == 0 { ": what was set is of none, or as it was" } else { "" };

    // ---- bridge: leader and queue -----------------------------------------------------------
    /// We stand for election.
    Info LeaderStands {} "standing for election";
    /// We have the lock.
    Info LeaderWon {} "this node leads";
    /// We gave the lock up.
    Info LeaderLeft { why: &'static str } "this node gives the lead up: {why}";
    /// We do not have the lock any more.
    Warn LeaderLost { why: &'static str } "this node does not lead any more: {why}";
    /// A lock without an owner, or of another one in our name, was taken from its session.
    Info LeaderStale { value: Box<str> } "the lock had been left behind with the value {value:?}; its session is ended";
    /// A message of the broadcast queue was worked.
    Debug QueueWorked { n: u64 } "bq/{n}: worked";
    /// A message of the broadcast queue could not be worked.
    Warn QueueSkipped { n: u64, why: Box<str> } "bq/{n}: passed over: {why}";
    /// The broadcast queue was purged.
    Info QueuePurged { entries: u32 } "bq: {entries} old entries removed";

    // ---- bridge: Motr's library -------------------------------------------------------------
    /// Motr's library has read the configuration.
    Info SpielUp {} "Motr's library has read the configuration: pools can be repaired and rebalanced";
    /// Motr's library cannot read the configuration yet.
    Warn SpielFailed { errno: Errno } "Motr's library cannot read the configuration: {errno}; it is told again";
    /// An operation on a pool is begun.
    Info SnsBegun { pool: Fid, op: &'static str } "{pool}: {op} begins";
    /// An operation on a pool is done.
    Info SnsEnded { pool: Fid, op: &'static str, us: u64 } "{pool}: {op} is done after {us} µs";
    /// Motr's library refuses an operation on a pool.
    Warn SnsRefused { pool: Fid, op: &'static str, errno: Errno } "{pool}: Motr's library refuses {op}: {errno}";
    /// Who asked for an operation on a pool waits no longer; it stays under way.
    Warn SnsLate { pool: Fid, op: &'static str, seconds: u64 } "{pool}: {op} has had no answer for {seconds} s; it stays under way";
    /// Statistics are in Consul.
    Debug StatisticsStored { what: &'static str } "{what}: taken down";
    /// Statistics, or a part of them, could not be taken down.
    Warn StatisticsFailed { what: &'static str, why: Box<str> } "{what}: not taken down: {why}";

    // ---- bridge: Consul ---------------------------------------------------------------------
    /// Consul answers (again).
    Info ConsulBack {} "Consul answers";
    /// Consul did not answer, or not as it should.
    Warn ConsulFailed { call: CallId, what: &'static str, why: Box<str> } "{call}: {what}: {why}";
    /// Consul still does not answer as it should.
    Debug ConsulFailsStill { call: CallId, what: &'static str, why: Box<str> } "{call}: {what}: {why}";
    /// Consul's access control refuses something. The host's log says it once, with the token's place.
    Debug ConsulRefuses { call: CallId, what: &'static str, why: Box<str> } "{call}: {what}: refused: {why}";
    /// An answer of Consul could not be understood.
    Warn ConsulBadAnswer { what: &'static str, why: Box<str> } "Consul's answer to {what} is not understood: {why}";
    /// A transaction met another writer; the keys are read again.
    Info WriteConflict { key: Box<str> } "{key}: another writer was faster; it is read again";
    /// A replica is loaded.
    Info ReplicaLoaded { table: &'static str, index: u64, entries: u32 } "{table}: loaded at index {index} with {entries} entries";
    /// A replica's index went backwards; it is read anew.
    Warn ReplicaReset { table: &'static str, from: u64, to: u64 } "{table}: Consul's index went from {from} to {to}; reading anew";
    /// Our token may not read a table.
    Warn TableUnreadable { table: &'static str, entries: u32 } "{table}: hax's token may not read it: not ready until it may; {entries} entries that were read before are kept";
    /// There is nothing in a table that cannot be empty.
    Warn TableEmpty { table: &'static str, entries: u32 } "{table}: there is nothing in Consul: not ready until there is; {entries} entries that were read before are kept";
    /// Consul shows a table again.
    Info TableShown { table: &'static str } "{table}: Consul shows it again";
    /// The configuration does not have our own process.
    Warn ProcessMissing { process: Fid } "m0conf has no process {process}, which this hax is by its settings, or by the service hax of its node: not ready until it has";
    /// The configuration has our own process again.
    Info ProcessFound { process: Fid } "m0conf has the process {process} of this hax";
    /// A watch has not brought what the server that is asked has had for a while.
    Info WatchHangs { table: &'static str } "{table}: Consul's servers seem to have no leader, or another one; followed as the server that is asked has it";
    /// An answer came for a call that nobody waits for any more.
    Debug LateAnswer { call: CallId } "{call}: its answer came after it was given up";
    /// An entry of Consul is not of the expected form and is passed over.
    Warn EntrySkipped { key: Box<str> } "passed over in Consul: {key} is not of the expected form";

    // ---- bridge: HTTP -----------------------------------------------------------------------
    /// A watch payload was taken in.
    Debug WatchPost { http: HttpId, checks: u32 } "{http}: {checks} checks from a watch";
    /// What a watch posted is newer than Consul itself; it is not believed.
    Warn PostDistrusted { table: &'static str, index: u64 } "{table}: what was posted is newer than Consul, which is at index {index}: it is dropped and the table read anew";
    /// A request was refused.
    Info HttpRefused { http: HttpId, status: u16, why: Box<str> } "{http}: refused with {status}: {why}";

    // ---- bridge: life -----------------------------------------------------------------------
    /// Everything that the bridge needs is there.
    Info Ready {} "ready: Consul answers and the configuration is loaded";
    /// The stop began.
    Info Stopping {} "stopping: what was begun is finished first";
    /// The stop took too long; what is left is left.
    Warn DrainTimedOut { lanes: u32 } "stopping: time is up with {lanes} processes' events not written; their senders will send them again";
    /// All is settled.
    Info Stopped {} "stopped";
    /// What goes into the node is not written down any more.
    Warn JournalEnded { why: Box<str> } "the journal ends, hax goes on: {why}";
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
            // An empty one is none.
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
