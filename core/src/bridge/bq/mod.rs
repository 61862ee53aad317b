//! The broadcast queue, `bq/`, over which old daemons tell each other of processes.

pub(crate) mod appender;
pub(crate) mod message;
pub(crate) mod purge;
pub(crate) mod receiver;
