//! The measured configurations.

use hax_sim::cluster::{NodeShape, Shape};

/// Returns a configuration like hare's for 23 nodes (421 processes, 1,908 objects): 437 processes, 2,392
/// objects.
#[must_use]
pub fn nodes23() -> Shape {
    with(23, 16, 8)
}

/// Returns the same nodes with disks for 100,000 objects.
#[must_use]
pub fn objects100k() -> Shape {
    with(23, 16, 2130)
}

/// Returns two nodes; the second has so many clients that its death causes 1,024 notes.
#[must_use]
pub fn crowded() -> Shape {
    let mut shape = with(2, 0, 1);
    // A client has four objects; hax, confd and IO service have 19.
    shape.nodes[1].clients = vec![21_501; 251];
    shape
}

/// Returns `nodes` nodes with `clients` clients and `drives` data drives each.
#[must_use]
pub fn with(nodes: u16, clients: u16, drives: u64) -> Shape {
    let mut shape = Shape::like_hare(1);
    shape.drives = drives;
    let like = shape.nodes.remove(0);
    shape.nodes = (1..=nodes)
        .map(|i| NodeShape {
            name: format!("ssu{i}"),
            ip: format!("127.0.{}.{}", 1 + (i - 1) / 250, 1 + (i - 1) % 250),
            clients: (0..clients).map(|client| 21_501 + client).collect(),
            ..like.clone()
        })
        .collect();
    shape
}
