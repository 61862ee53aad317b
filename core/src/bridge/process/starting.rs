//! The processes that have started and have no link yet. The first entrypoint request of a life is counted
//! once, although a process repeats it until it is answered.

use alloc::collections::BTreeMap;

use crate::base::fid::Fid;

/// The starting processes, each with its pid.
#[derive(Debug, Default)]
pub(crate) struct Starting {
    pids: BTreeMap<Fid, u64>,
}

/// The meaning of a first entrypoint request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstRequest {
    /// It begins a new life.
    NewLife,
    /// It repeats the first request of the current life.
    Repeated,
    /// There are too many starting processes already.
    TooMany,
}

impl Starting {
    /// Handles a first request. At most `max` processes may be starting.
    pub(crate) fn on_first_request(&mut self, process: Fid, pid: u64, max: usize) -> FirstRequest {
        match self.pids.get(&process) {
            Some(known) if *known == pid => return FirstRequest::Repeated,
            None if self.pids.len() >= max => return FirstRequest::TooMany,
            Some(_) | None => {}
        }
        self.pids.insert(process, pid);
        FirstRequest::NewLife
    }

    /// Removes a process that has its link.
    pub(crate) fn on_link_up(&mut self, process: Fid) {
        self.pids.remove(&process);
    }

    /// Removes the processes that do not match.
    pub(crate) fn retain(&mut self, matches: impl Fn(Fid) -> bool) {
        self.pids.retain(|process, _| matches(*process));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_begins_once_and_starting_processes_are_bounded() {
        let mut starting = Starting::default();
        let mut first = |key, pid| starting.on_first_request(Fid::process(key), pid, 2);
        assert_eq!([first(1, 7), first(1, 7)], [FirstRequest::NewLife, FirstRequest::Repeated]);
        assert_eq!([first(2, 7), first(3, 7)], [FirstRequest::NewLife, FirstRequest::TooMany]);
        // A new life of a starting process takes no more room.
        assert_eq!(first(1, 8), FirstRequest::NewLife);
        starting.on_link_up(Fid::process(2));
        assert_eq!(starting.on_first_request(Fid::process(3), 7, 2), FirstRequest::NewLife);
        starting.retain(|process| process == Fid::process(3));
        assert_eq!(starting.on_first_request(Fid::process(1), 8, 2), FirstRequest::NewLife);
    }
}
