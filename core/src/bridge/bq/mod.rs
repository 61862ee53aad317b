//! The broadcast queue `bq/`. Old daemons exchange events of processes over it.

pub(crate) mod appender;
pub(crate) mod message;
pub(crate) mod purge;
pub(crate) mod receiver;
