//! Services end to end: three real Consul servers, `hax run` and a keeper on each of three nodes, real processes,
//! and for each figure a ceiling from the same run.

mod child;
mod cluster;
#[path = "../e2e/row.rs"]
mod row;
mod rows;
#[path = "../route/sample.rs"]
mod sample;
#[path = "../route/table.rs"]
mod table;

fn main() -> anyhow::Result<()> {
    // The program is its own service, too.
    if let Some(socket) = child::socket() {
        return child::run(&socket);
    }
    table::main("services", &rows::ALL)
}
