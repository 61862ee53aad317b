//! The bridge: what hax does with what it receives.

pub mod io;
