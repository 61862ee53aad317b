//! The identity of a process. The process id alone is not enough, since the kernel reuses ids.

use core::fmt;

use serde::{Deserialize, Serialize};

/// One process of this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// The start time, in clock ticks since the boot. No later process with the same id has the same start
    /// time.
    pub started: u64,
}

/// The fields of `/proc/PID/stat` that the keeper uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The identity of the process.
    pub process: Process,
    /// The parent's process id. The parent receives the exit code.
    pub parent: u32,
    /// Whether the process has ended and its parent has not received the exit code yet.
    pub is_zombie: bool,
}

impl Stat {
    /// Parses the file (proc(5)). The second field is the program's name in parentheses, and may contain any
    /// character.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let name = text.iter().position(|byte| *byte == b'(')?;
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let word = |bytes| str::from_utf8(bytes).ok().map(str::trim);
        let pid = word(text.get(..name)?)?.parse().ok()?;
        let mut fields = word(text.get(end + 1..)?)?.split_ascii_whitespace();
        // The third field is the state, the fourth the parent, and the 22nd the start time.
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let started = fields.nth(17)?.parse().ok()?;
        let is_zombie = matches!(state, "Z" | "X");
        Some(Self { process: Process { pid, started }, parent, is_zombie })
    }

    /// Returns whether this is the given process and it has not ended.
    #[must_use]
    pub fn is_alive(&self, process: Process) -> bool {
        self.process == process && !self.is_zombie
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use quickcheck::quickcheck;

    use super::*;

    const LINE: &str = "4711 (a) S (b) R 1 4711 4711 0 -1 4194560 96 0 0 0 0 0 0 0 20 0 1 0 8675309 2842624 \
        211 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

    #[test]
    fn a_name_with_parentheses_and_spaces_hides_nothing() {
        let found = Stat::parse(LINE.as_bytes()).unwrap();
        let process = Process { pid: 4711, started: 8_675_309 };
        assert_eq!(found, Stat { process, parent: 1, is_zombie: false });
        assert!(found.is_alive(process));
        assert!(
            !found.is_alive(Process { started: 8_675_310, ..process }),
            "its number, used again"
        );
    }

    #[test]
    fn a_zombie_has_the_right_start_and_is_dead_all_the_same() {
        let zombie = Stat::parse(LINE.replace(") R ", ") Z ").as_bytes()).unwrap();
        assert!(zombie.is_zombie && !zombie.is_alive(zombie.process));
    }

    #[test]
    fn half_a_line_is_none() {
        let start = LINE.find(" 8675309").unwrap();
        for end in 0..=start {
            assert_eq!(Stat::parse(&LINE.as_bytes()[..end]), None, "{end}");
        }
    }

    quickcheck! {
        fn no_line_is_too_much(line: String) -> bool {
            Stat::parse(line.as_bytes()).is_none_or(|stat| stat.process.pid > 0 || line.contains('('))
        }
    }
}
