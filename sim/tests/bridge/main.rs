//! The bridge against the Consul double, one rule after another, without wire and clock.

mod deaths;
mod entrypoints;
mod events;
mod lab;
mod leader;
mod questions;
mod queue;
mod routes;
