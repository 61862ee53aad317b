//! Tests of the bridge against the Consul double, one rule per test, without a wire and without real time.

mod deaths;
mod defects;
mod entrypoints;
mod events;
mod field;
mod hidden;
mod host;
mod kept;
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
