//! `hax`: the HA bridge between Motr and Consul.

fn main() {}
