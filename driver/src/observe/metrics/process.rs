//! The standard metrics of a process, from Linux' `/proc` (proc(5)). Unreadable values are left out.

use std::fs;

use super::text::{Seconds, Text};

/// The unit of time in `/proc` is 1/100 s on every architecture that hax runs on.
const TICKS_PER_SECOND: u64 = 100;

pub(super) fn render(text: &mut Text) {
    let mut gauge = |name: &str, help: &str, value: Option<u64>| {
        if let Some(value) = value {
            text.family(name, "gauge", help);
            text.sample(name, &[], value);
        }
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let bytes = |name| number(&status, name).map(|kib| kib * 1024);
    gauge("process_resident_memory_bytes", "Resident memory size.", bytes("VmRSS:"));
    gauge("process_virtual_memory_bytes", "Virtual memory size.", bytes("VmSize:"));
    let open = fs::read_dir("/proc/self/fd").ok().and_then(|fds| u64::try_from(fds.count()).ok());
    gauge("process_open_fds", "Open file descriptors.", open);
    gauge("process_max_fds", "The limit of open files.", number(&limits, "Max open files"));
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in brackets, may contain blanks. The text after it begins with the third field.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = |nth: usize| fields.split_whitespace().nth(nth - 3)?.parse::<u64>().ok();
    let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
    let started = number(&boot, "btime").zip(field(22));
    let started = started.map(|(boot, ticks)| boot + ticks / TICKS_PER_SECOND);
    gauge("process_start_time_seconds", "Start time, in seconds of UNIX time.", started);
    if let Some((user, system)) = field(14).zip(field(15)) {
        let name = "process_cpu_seconds_total";
        text.family(name, "counter", "User and system time spent.");
        text.sample(name, &[], Seconds((user + system) * (1_000_000 / TICKS_PER_SECOND)));
    }
}

/// Returns the number after `name` at the beginning of a line.
fn number(lines: &str, name: &str) -> Option<u64> {
    let rest = lines.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_them_all() {
        let mut text = Text::default();
        render(&mut text);
        let text = text.finish();
        let value = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            found.unwrap_or_else(|| panic!("{name}: {text}")).parse::<f64>().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_start_time_seconds") > 1.7e9);
        assert!(value("process_cpu_seconds_total") >= 0.0);
    }
}
