//! The cluster as described by Consul: the configuration (`m0conf/`), the reported process events
//! (`processes/`), the checks (health), and the resulting state of each object.

mod announced;
mod assess;
pub(crate) mod cascade;
pub mod conf;
pub mod fid_table;
pub mod health;
mod liveness;
pub mod replica;
pub mod states;
mod view;

pub use view::{Changes, Cluster};
