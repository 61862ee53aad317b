//! The bridge's configuration: identity, times and limits. The host sets it once.

use alloc::boxed::Box;
use core::time::Duration;

use crate::base::fid::Fid;

/// The bridge's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The fid of our own process.
    pub process: Fid,
    /// The host name of our node, as in `m0conf`.
    pub node: Box<str>,
    /// The seed of the jitter of retries; any value will do.
    pub seed: u64,
    /// The reaction to unexpected messages: 5/HAX demands a panic.
    pub on_unexpected: OnUnexpected,
    /// Whether this node is a candidate for the leader.
    pub elect: bool,
    /// Whether process events are exchanged with old daemons over the broadcast queue.
    pub bq: bool,
    /// Whether Motr's library is available. It repairs and rebalances pools and provides statistics.
    pub spiel: bool,
    /// The times.
    pub time: Times,
    /// The limits.
    pub limit: Limits,
}

/// The reaction to KEEPALIVE, BE_IO_ERR and SNS_ERR (5/HAX, "Messages from Motr").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnexpected {
    /// Acknowledge the message, then stop with an exit code of its own.
    Panic,
    /// Acknowledge the message and continue.
    Ignore,
}

/// Time limits, delays and intervals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    /// The time limit of one round of reads for entrypoints.
    pub round: Duration,
    /// The minimum delay of an EAGAIN after its request, because a process retries at once.
    pub eagain_delay: Duration,
    /// The time limit of one short request to Consul.
    pub call: Duration,
    /// The maximum wait of a blocking query at Consul.
    pub watch: Duration,
    /// The minimum interval between two processed responses of one watch.
    pub watch_interval_min: Duration,
    /// The time limit for keeping the pending notes of a link while it is down.
    pub link_grace: Duration,
    /// The maximum delay of a restarted process's entrypoint until the other processes have been notified of
    /// the end of its last life.
    pub deliveries: Duration,
    /// The minimum time for which checks must fail before a process with a live link is declared dead. A process
    /// whose link is down is declared dead at once. All checks fail for a moment when an agent restarts.
    pub silence: Duration,
    /// The maximum wait of an entrypoint request for writes about its own process. It is answered with EAGAIN
    /// after that.
    pub held_max: Duration,
    /// The interval of the leader's purges of the broadcast queue.
    pub purge: Duration,
    /// The maximum wait of an HTTP request for an operation on a pool. The operation continues after that.
    pub sns: Duration,
    /// The interval of the leader's recordings of the filesystem statistics; zero for never.
    pub filesystem: Duration,
    /// The interval of the leader's recordings of the byte counts; zero for never.
    pub bytecount: Duration,
    /// The maximum wait of a stop for work in progress.
    pub drain: Duration,
}

/// Maximum numbers and sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Waiting entrypoint requests. Further requests are answered with EAGAIN at once.
    pub entries: usize,
    /// Processes with a start to be counted as soon as the configuration is known. Further requests are
    /// answered with EAGAIN at once.
    pub starts: usize,
    /// Queued events of one process without a pending acknowledgement.
    pub queued_per_process: usize,
    /// Undelivered messages on one link. Further notes are kept as the latest note per object.
    pub sends_per_link: usize,
    /// Transactions in flight.
    pub transactions: usize,
    /// Operations of one transaction (Consul: 64).
    pub transaction_ops: usize,
    /// Bytes of one transaction's body (Consul: 512 KiB).
    pub transaction_bytes: usize,
    /// Entries kept in the broadcast queue for nodes with unprocessed entries. Old daemons refuse a watch's
    /// payload of 1 MiB, about 2,700 entries.
    pub queue_entries: usize,
    /// Unprocessed entries of the broadcast queue.
    pub queued_entries: usize,
    /// Bytes of a response of Consul. The configuration of 100,000 objects has 32 MB.
    pub answer_bytes: usize,
    /// Posted checks kept per process or per node.
    pub posted_checks: usize,
    /// Decoded entries of a response per call of `handle`: about 2 ms.
    pub entries_per_slice: usize,
    /// Bytes of an HTTP request's body.
    pub body_bytes: usize,
    /// Operations on pools in progress. Each one holds a thread of the host.
    pub operations: usize,
}

impl Config {
    /// Returns the default configuration of this process on this node.
    #[must_use]
    pub fn new(process: Fid, node: &str, seed: u64) -> Self {
        Self {
            process,
            node: node.into(),
            seed,
            on_unexpected: OnUnexpected::Panic,
            elect: true,
            bq: true,
            spiel: false,
            time: Times::default(),
            limit: Limits::default(),
        }
    }
}

impl Default for Times {
    fn default() -> Self {
        Self {
            round: Duration::from_millis(1500),
            eagain_delay: Duration::from_secs(1),
            call: Duration::from_secs(5),
            watch: Duration::from_secs(60),
            watch_interval_min: Duration::from_millis(250),
            link_grace: Duration::from_secs(60),
            deliveries: Duration::from_secs(1),
            silence: Duration::from_secs(5),
            held_max: Duration::from_millis(2500),
            purge: Duration::from_secs(60),
            sns: Duration::from_secs(30),
            filesystem: Duration::from_secs(600),
            bytecount: Duration::from_secs(600),
            drain: Duration::from_secs(10),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 20_000,
            starts: 1_024,
            queued_per_process: 1_024,
            sends_per_link: 16,
            transactions: 4,
            transaction_ops: 64,
            transaction_bytes: 512 * 1024,
            queue_entries: 1_000,
            queued_entries: 20_000,
            answer_bytes: 64 * 1024 * 1024,
            posted_checks: 64,
            entries_per_slice: 2_000,
            body_bytes: 4 * 1024 * 1024,
            operations: 16,
        }
    }
}
