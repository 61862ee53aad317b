//! The limit on open files. Each connection uses one. Connecting peers must not use up the files that hax
//! needs itself, so connections of Motr are accepted only within the limit.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::settings::Settings;

/// The files other than connections of processes and of HTTP clients. These are connections to Consul,
/// connections that are being closed or were not looked at yet, listeners, the log, and a journal.
const OTHER_FILES: u64 = 1024;

/// Raises the soft limit of this program to the hard limit (getrlimit(2)). Returns the limit; `None` is no limit.
pub(crate) fn raise() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(why) => {
            tracing::debug!(target: "hax", %why, "the limit of open files stays as it is");
            limit.current
        }
    }
}

/// Raises the limit, and says how many connections of Motr's processes fit; in the log, too, if these are fewer
/// than the settings allow.
pub(super) fn motr_connections_max(settings: &Settings) -> usize {
    let limit = raise();
    let wanted = settings.motr.connections_max;
    let fit = connections_within(limit, wanted, settings.http.connections_max);
    if fit < wanted {
        let limit = limit.unwrap_or(u64::MAX);
        tracing::warn!(
            target: "hax", limit, wanted,
            "the limit of open files allows only {fit} connections of Motr"
        );
    }
    fit
}

/// Returns the number of connections of Motr's processes that fit in this limit of files. A process has two
/// connections, one in each direction.
fn connections_within(limit: Option<u64>, wanted: usize, http: usize) -> usize {
    let limit = limit.unwrap_or(u64::MAX);
    let left = limit.saturating_sub(OTHER_FILES).saturating_sub(http as u64);
    // With a very low limit, connections of processes have priority: they are the purpose of hax.
    let fit = usize::try_from((left / 2).max(limit / 8)).unwrap_or(usize::MAX);
    wanted.min(fit.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_connections_are_kept_than_files_may_be_open() {
        assert_eq!(connections_within(None, 2048, 512), 2048);
        assert_eq!(connections_within(Some(16_384), 2048, 512), 2048);
        assert_eq!(connections_within(Some(4096), 2048, 512), 1280);
        assert_eq!(connections_within(Some(1024), 2048, 512), 128);
        assert_eq!(connections_within(Some(1024), 8, 512), 8);
        assert_eq!(
            connections_within(Some(u64::MAX), usize::from(u16::MAX), 512),
            usize::from(u16::MAX)
        );
    }
}
