//! The encoding of a node's configuration in a journal. A new field of the configuration does not compile
//! until it is added here, together with a new version.

use alloc::vec::Vec;

use super::JournalError;
use super::field::{Cursor, Field};
use crate::bridge::config::{Config as Bridge, Limits, OnUnexpected, Times};
use crate::node::Config;
use crate::state::Slots;
use crate::wire::Config as Wire;
use crate::wire::endpoint::Keeping;

macro_rules! in_order {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $($field.put(out);)*
            }

            fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
                Ok(Self { $($field: Field::take(from)?),* })
            }
        }
    };
}

pub(super) use in_order;

in_order!(Config { bridge, wire });
in_order!(Bridge { process, node, seed, on_unexpected, elect, bq, spiel, time, limit });
in_order!(Times {
    round,
    eagain_delay,
    call,
    watch,
    watch_interval_min,
    link_grace,
    deliveries,
    held_max,
    silence,
    purge,
    sns,
    filesystem,
    bytecount,
    drain,
});
in_order!(Limits {
    entries,
    sends_per_link,
    transactions,
    transaction_ops,
    transaction_bytes,
    queue_entries,
    queued_entries,
    answer_bytes,
    entries_per_slice,
    body_bytes,
    posted_checks,
    operations,
    starts,
    queued_per_process,
});
in_order!(Wire {
    listen,
    name,
    generation,
    seed,
    known_only,
    links_max,
    conns_max,
    rpc_conns_max,
    unacked_max,
    queue_max,
    entries_max,
    backlog_bytes_max,
    reply_bytes_max,
    keeping,
});
in_order!(Keeping { boot, process, ends_links, slots });

impl Field for Option<Keeping> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        self.iter().for_each(|keeping| keeping.put(out));
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        Ok(if bool::take(from)? { Some(Keeping::take(from)?) } else { None })
    }
}

impl Field for Slots {
    fn put(&self, out: &mut Vec<u8>) {
        u32::try_from(self.len()).unwrap_or(u32::MAX).put(out);
        for (slot, value) in self {
            slot.put(out);
            value.put(out);
        }
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        // The number is not trusted with memory: each slot is read before the next has room.
        (0..u32::take(from)?).map(|_| Ok((Field::take(from)?, Field::take(from)?))).collect()
    }
}

impl Field for OnUnexpected {
    fn put(&self, out: &mut Vec<u8>) {
        (*self == Self::Ignore).put(out);
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        Ok(if bool::take(from)? { Self::Ignore } else { Self::Panic })
    }
}
