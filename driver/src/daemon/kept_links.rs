//! The state of links that outlive the daemon: where it is kept, and what the last life left behind.

use hax_core::discover::Identity;
use hax_core::wire::endpoint::Keeping;

use crate::settings::motr::MotrSettings;
use crate::state::{StateFile, boot_id};

/// Opens the file of `--state-dir`. Without it, links end with the daemon; the log says why.
pub(super) fn open(settings: &MotrSettings, identity: &Identity) -> Option<(StateFile, Keeping)> {
    let folder = settings.state_dir.path()?;
    let opened = match boot_id() {
        Some(boot) => StateFile::open(folder).map(|(file, slots)| (boot, file, slots)),
        None => {
            tracing::warn!(target: "hax", "links do not outlive hax: the system has no boot id");
            return None;
        }
    };
    match opened {
        Ok((boot, file, slots)) => {
            let (process, ends_links) = (identity.fid, settings.end_links);
            Some((file, Keeping { boot, process, ends_links, slots }))
        }
        // Who runs hax by hand has no such folder, and may not care.
        Err(why) if settings.state_dir.is_default() => {
            tracing::info!(target: "hax", "links do not outlive hax: {why} (--state-dir)");
            None
        }
        Err(why) => {
            tracing::warn!(target: "hax", "links do not outlive hax: {why} (--state-dir)");
            None
        }
    }
}
