//! The cluster as Consul describes it: what there is (`m0conf/`), what processes said
//! (`processes/`), what checks say (health), and the state that follows for each object.

mod assess;
pub(crate) mod cascade;
pub mod conf;
pub mod fid_table;
pub mod health;
mod liveness;
pub mod replica;
pub mod states;
mod view;

pub use view::{Changes, Cluster, Tracked};
