//! The keeper's table against a host of the tests' own.

mod host;
mod rules;
mod scenes;
