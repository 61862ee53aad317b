//! What the host decides once: who we are, how long things may take, how much there may be.

use alloc::boxed::Box;
use core::time::Duration;

use crate::base::fid::Fid;

/// The bridge's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Our own process.
    pub process: Fid,
    /// Our node's host name, as `m0conf` has it.
    pub node: Box<str>,
    /// Feeds the jitter of retries; anything will do.
    pub seed: u64,
    /// What to do with a message on which 5/HAX demands a panic.
    pub on_unexpected: OnUnexpected,
    /// Whether to stand for election as the leader.
    pub elect: bool,
    /// Whether to tell old daemons of process events, and to hear theirs, over the broadcast queue.
    pub bq: bool,
    /// Whether there is Motr's library, which repairs and rebalances pools and has statistics.
    pub spiel: bool,
    /// How long things may take.
    pub time: Times,
    /// How much there may be.
    pub limit: Limits,
}

/// What to do with KEEPALIVE, BE_IO_ERR and SNS_ERR (5/HAX, "Messages from Motr").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnexpected {
    /// Acknowledge it, then stop with an exit code of its own.
    Panic,
    /// Acknowledge it and go on.
    Ignore,
}

/// How long things may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    /// One round of reads for entrypoints.
    pub round: Duration,
    /// The soonest EAGAIN after its request: a process asks again at once.
    pub eagain_delay: Duration,
    /// One short request to Consul.
    pub call: Duration,
    /// How long Consul may hold a blocking query.
    pub watch: Duration,
    /// The shortest pause between two answers of one watch that are taken in.
    pub watch_interval_min: Duration,
    /// How long the notes owed to a link that is down are kept.
    pub link_grace: Duration,
    /// How long the entrypoint of a process that has restarted waits until the others have heard
    /// that its last life is over.
    pub deliveries: Duration,
    /// How long the checks of a process with a living link must fail until it is declared dead; one
    /// whose link is down is at once. An agent that restarts has all its checks fail for a moment.
    pub failing_grace: Duration,
    /// How long an entrypoint request may wait for its process's own writes; then it is told to ask
    /// again.
    pub held_max: Duration,
    /// How often the leader purges the broadcast queue.
    pub purge: Duration,
    /// How long an HTTP request waits for an operation on a pool, which goes on without it.
    pub sns: Duration,
    /// How often the leader takes down how much space there is; zero: never.
    pub filesystem: Duration,
    /// How often it takes down who has how many bytes; zero: never.
    pub bytecount: Duration,
    /// How long a stop may wait for what was begun.
    pub drain: Duration,
}

/// How much there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entrypoint requests that wait; the next one is told to ask again at once.
    pub entries: usize,
    /// Processes whose start waits to be counted before it is known which ones are configured; the next
    /// one is told to ask again at once.
    pub starts: usize,
    /// What one process has said and is not written, where nobody waits for its acknowledgement.
    pub queued_per_process: usize,
    /// Messages sent to one link and not delivered yet; what is owed beyond is kept as the latest
    /// note per object.
    pub sends_per_link: usize,
    /// Transactions in flight.
    pub transactions: usize,
    /// Operations of one transaction (Consul: 64).
    pub transaction_ops: usize,
    /// Bytes of one transaction's body (Consul: 512 KiB).
    pub transaction_bytes: usize,
    /// Entries that the broadcast queue keeps for nodes that have not worked them: old daemons
    /// refuse a watch's payload of 1 MiB, about 2,700 entries.
    pub queue_entries: usize,
    /// Posted entries of the broadcast queue that wait to be worked.
    pub queued_entries: usize,
    /// Bytes of an answer of Consul: the configuration of 100,000 objects is 32 MB.
    pub answer_bytes: usize,
    /// Posted checks that are kept of one process or of one node.
    pub posted_checks: usize,
    /// Entries of an answer that are decoded in one call of `handle`: about 2 ms.
    pub entries_per_slice: usize,
    /// Bytes of an HTTP request's body.
    pub body_bytes: usize,
    /// Operations on pools under way: each holds a thread of the host.
    pub operations: usize,
}

impl Config {
    /// The defaults for this process on this node.
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
            failing_grace: Duration::from_secs(5),
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
