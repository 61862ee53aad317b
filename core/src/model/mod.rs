//! The cluster as Consul describes it: what there is (`m0conf/`), what processes said
//! (`processes/`), what checks say (health), and the state that follows for each object.

mod cluster;
pub mod conf;
pub(crate) mod follow;
pub mod health;
mod judge;
mod judged;
pub mod states;
pub mod table;

pub use cluster::{Cluster, News, Told};
