//! How many files may be open: each connection is one. Whoever connects must not be able to use up what hax
//! needs for itself, so connections of Motr are taken in only as far as the limit goes.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::settings::Settings;

/// Beside connections of processes and of HTTP clients: those to Consul, those that are being closed or are
/// not looked at yet, listeners, the log, a journal.
const OTHERS: u64 = 1024;

/// Raises this program's limit as far as it may (getrlimit(2)), and says how many connections of Motr's
/// processes fit; in the log, too, if these are fewer than the settings allow.
pub(super) fn make_room(settings: &Settings) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(why) => {
            tracing::debug!(target: "hax", %why, "the limit of open files stays as it is");
            limit.current
        }
    };
    let wanted = settings.motr.connections_max;
    let fit = fitting(limit, wanted, settings.http.connections_max);
    if fit < wanted {
        let limit = limit.unwrap_or(u64::MAX);
        tracing::warn!(
            target: "hax", limit, wanted,
            "the limit of open files allows only {fit} connections of Motr"
        );
    }
    fit
}

/// How many connections of Motr's processes there may be with so many files; a process has two, one in each
/// direction.
fn fitting(limit: Option<u64>, wanted: usize, http: usize) -> usize {
    let limit = limit.unwrap_or(u64::MAX);
    let left = limit.saturating_sub(OTHERS).saturating_sub(http as u64);
    // Where next to nothing is allowed, processes are what it is for.
    let fit = usize::try_from((left / 2).max(limit / 8)).unwrap_or(usize::MAX);
    wanted.min(fit.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_connections_are_kept_than_files_may_be_open() {
        assert_eq!(fitting(None, 2048, 512), 2048);
        assert_eq!(fitting(Some(16_384), 2048, 512), 2048);
        assert_eq!(fitting(Some(4096), 2048, 512), 1280);
        assert_eq!(fitting(Some(1024), 2048, 512), 128);
        assert_eq!(fitting(Some(1024), 8, 512), 8);
        assert_eq!(fitting(Some(u64::MAX), usize::from(u16::MAX), 512), usize::from(u16::MAX));
    }
}
