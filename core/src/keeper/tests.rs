//! Tests of the keeper's table with a host in memory.

mod host;
mod rules;
mod scenes;
