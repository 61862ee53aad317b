//! `hax route` end to end: real servers, scripts and event handlers, real routes and pings in network
//! namespaces, a real Consul, and for each figure a ceiling or a rival from the same run.
//!
//! It needs root, `ip` and a Consul. The rows of what is missing say so.

mod router;
#[path = "../e2e/row.rs"]
mod row;
mod rows;
mod sample;
mod table;

fn main() -> anyhow::Result<()> {
    table::main("route", &rows::ALL)
}
