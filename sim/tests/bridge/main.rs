//! The bridge against the Consul double, one rule after another, without wire and clock.

mod deaths;
mod defects;
mod entrypoints;
mod events;
mod field;
mod hidden;
mod host;
mod lanes;
mod leader;
mod questions;
mod queue;
mod restored;
mod routes;
mod spiel;
mod statistics;
mod test_cluster;
mod watches;
