//! Supervised services (the RFC "Services"): types, their instances on the nodes, and the recovery
//! coordinator.

pub mod model;
