//! The foundation of all modules: fids, ids, time, timers, facts, retries.

pub mod errno;
pub mod fact;
pub mod fid;
pub mod id;
pub mod mutant;
pub mod retry;
pub mod time;
pub mod timers;
