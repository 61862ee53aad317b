//! Translations between the vocabularies of Motr, Consul and the old daemon. Every table is total.
//!
//! The texts are those of hare's KV schema (4/KV and the old daemon's values).

use alloc::borrow::Cow;
use alloc::string::String;

use serde::Deserialize;

use crate::ha::note::ObjectState;
use crate::ha::process::{ProcessEventKind, ProcessType};

/// The content of `processes/<fid>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessRecord {
    /// The last event.
    pub state: ProcessEventKind,
    /// The type of the process in the event.
    pub kind: ProcessType,
    /// The last event reported by the process itself, if the state was declared by a hax instead.
    ///
    /// It is stored in the key's flags, which the old daemon does not use, so the value stays identical
    /// letter for letter.
    pub last_reported: Option<ProcessEventKind>,
}

impl ProcessRecord {
    /// Creates the record of an event reported by the process itself.
    #[must_use]
    pub const fn reported(state: ProcessEventKind, kind: ProcessType) -> Self {
        Self { state, kind, last_reported: None }
    }

    /// Returns the resulting state of the process's objects; `None` if they do not follow this event.
    #[must_use]
    pub fn effect(self) -> Option<ObjectState> {
        match (self.kind, self.state) {
            (ProcessType::Mkfs, _) => None,
            (_, ProcessEventKind::Started) => Some(ObjectState::DtmRecovering),
            (_, ProcessEventKind::DtmRecovered) => Some(ObjectState::Online),
            (_, ProcessEventKind::Stopped) if self.last_reported.is_some() => {
                Some(ObjectState::Transient)
            }
            (_, ProcessEventKind::Stopped) => Some(ObjectState::Failed),
            (
                _,
                ProcessEventKind::Starting
                | ProcessEventKind::Stopping
                | ProcessEventKind::Undefined(_),
            ) => None,
        }
    }

    /// Decodes the value and the flags of `processes/<fid>`.
    #[must_use]
    pub fn from_kv(text: &[u8], flags: u64) -> Option<Self> {
        #[derive(Deserialize)]
        struct Raw<'a> {
            #[serde(borrow)]
            state: &'a str,
            #[serde(borrow, rename = "type")]
            kind: &'a str,
        }
        let raw: Raw<'_> = serde_json::from_slice(text).ok()?;
        Some(Self {
            state: ProcessEventKind::from_kv_name(raw.state)?,
            kind: ProcessType::from_kv_name(raw.kind)?,
            last_reported: flags.checked_sub(1).map(ProcessEventKind::from_wire).filter(is_defined),
        })
    }

    /// Returns the key's flags: one more than the number of the last reported event before the process was
    /// declared stopped; 0 if the process reported the value itself.
    #[must_use]
    pub fn flags(self) -> u64 {
        self.last_reported.filter(is_defined).map_or(0, |was| was.to_wire() + 1)
    }

    /// Returns the value of `processes/<fid>`, letter for letter as the old daemon writes it; `None` if a
    /// number is undefined.
    #[must_use]
    pub fn to_json(self) -> Option<String> {
        let (state, kind) = (self.state.kv_name()?, self.kind.kv_name()?);
        Some(alloc::format!(r#"{{"state": "{state}", "type": "{kind}"}}"#))
    }
}

fn is_defined(event: &ProcessEventKind) -> bool {
    event.kv_name().is_some()
}

/// Returns the state of a process with passing checks.
///
/// A process that has never reported its start is TRANSIENT: something else listens at its port (hare since
/// 29de6774).
///
/// `settles` is true for a confd and for the bridge itself. They have no transactions to replay, so they are
/// online as soon as they have started.
#[must_use]
pub fn of_passing_process(record: Option<ProcessRecord>, settles: bool) -> ObjectState {
    let Some(record) = record else { return ObjectState::Transient };
    // m0mkfs runs under its server's fid, while the server itself does not run.
    if record.kind == ProcessType::Mkfs {
        return ObjectState::Transient;
    }
    match record.state {
        ProcessEventKind::Started if settles => ObjectState::Online,
        ProcessEventKind::Started => ObjectState::DtmRecovering,
        ProcessEventKind::DtmRecovered => ObjectState::Online,
        ProcessEventKind::Starting
        | ProcessEventKind::Stopping
        | ProcessEventKind::Stopped
        | ProcessEventKind::Undefined(_) => ObjectState::Transient,
    }
}

/// Returns the state of a storage device or its drive for the text in `m0conf`.
#[must_use]
pub fn of_device(text: &str) -> ObjectState {
    match text {
        "offline" => ObjectState::Transient,
        "failed" => ObjectState::Failed,
        "repairing" => ObjectState::Repair,
        "repaired" => ObjectState::Repaired,
        "rebalancing" => ObjectState::Rebalance,
        // "unknown", "M0_NC_UNKNOWN", "dtm_recovering", "online", and a missing text.
        _ => ObjectState::Online,
    }
}

/// Returns the state of a node, an enclosure or a controller for the text in `m0conf`; `text` is `None` if
/// there is no text.
#[must_use]
pub fn of_hardware(text: Option<&str>, may_repair: bool) -> ObjectState {
    match text {
        None | Some("M0_NC_ONLINE") => ObjectState::Online,
        Some("M0_NC_FAILED") => ObjectState::Failed,
        Some("M0_NC_REPAIR") if may_repair => ObjectState::Repair,
        Some("M0_NC_REPAIRED") => ObjectState::Repaired,
        Some("M0_NC_REBALANCE") if may_repair => ObjectState::Rebalance,
        Some("M0_NC_DTM_RECOVERING") => ObjectState::DtmRecovering,
        // "M0_NC_UNKNOWN", "M0_NC_TRANSIENT" and undefined texts: the state is not certain.
        Some(_) => ObjectState::Transient,
    }
}

/// Returns the text for the state of a storage device.
#[must_use]
pub fn device_text(state: ObjectState) -> &'static str {
    match state {
        ObjectState::Online => "online",
        ObjectState::Failed => "failed",
        ObjectState::Repair => "repairing",
        ObjectState::Repaired => "repaired",
        ObjectState::Rebalance => "rebalancing",
        ObjectState::DtmRecovering => "dtm_recovering",
        ObjectState::Transient | ObjectState::Unknown | ObjectState::Undefined(_) => "offline",
    }
}

/// Returns the text for the state of a process in its entry of `m0conf`.
#[must_use]
pub fn process_text(state: ObjectState) -> &'static str {
    match state {
        ObjectState::Online => "online",
        ObjectState::Failed => "failed",
        ObjectState::DtmRecovering => "dtm_recovering",
        ObjectState::Unknown
        | ObjectState::Transient
        | ObjectState::Repair
        | ObjectState::Repaired
        | ObjectState::Rebalance
        | ObjectState::Undefined(_) => "offline",
    }
}

/// Returns the text for the state of a node, an enclosure or a controller.
#[must_use]
pub fn hardware_text(state: ObjectState) -> &'static str {
    match state {
        ObjectState::Online => "M0_NC_ONLINE",
        ObjectState::Failed => "M0_NC_FAILED",
        ObjectState::Repair => "M0_NC_REPAIR",
        ObjectState::Repaired => "M0_NC_REPAIRED",
        ObjectState::Rebalance => "M0_NC_REBALANCE",
        ObjectState::DtmRecovering => "M0_NC_DTM_RECOVERING",
        ObjectState::Transient | ObjectState::Unknown | ObjectState::Undefined(_) => {
            "M0_NC_TRANSIENT"
        }
    }
}

/// Returns the state text in an entry of `m0conf`.
#[must_use]
pub fn state_text(value: &str) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Raw<'a> {
        #[serde(borrow)]
        state: Option<Cow<'a, str>>,
    }
    serde_json::from_str::<Raw<'_>>(value).ok()?.state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_written_as_the_old_daemon_does() {
        let record = ProcessRecord::reported(ProcessEventKind::Started, ProcessType::M0d);
        let text = record.to_json().expect("both are defined");
        assert_eq!(
            text,
            r#"{"state": "M0_CONF_HA_PROCESS_STARTED", "type": "M0_CONF_HA_PROCESS_M0D"}"#
        );
        assert_eq!(record.flags(), 0);
        assert_eq!(ProcessRecord::from_kv(text.as_bytes(), 0), Some(record));
        assert_eq!(ProcessRecord::from_kv(br#"{"state": "online"}"#, 0), None);
        assert_eq!(ProcessRecord::from_kv(b"null", 0), None);
    }

    #[test]
    fn what_was_declared_is_told_from_what_was_said_by_the_flags_alone() {
        let said = ProcessRecord::reported(ProcessEventKind::Stopped, ProcessType::M0d);
        for n in 0..5 {
            let declared =
                ProcessRecord { last_reported: Some(ProcessEventKind::from_wire(n)), ..said };
            let text = declared.to_json().expect("both are defined");
            assert_eq!(declared.to_json(), said.to_json());
            assert_eq!(ProcessRecord::from_kv(text.as_bytes(), declared.flags()), Some(declared));
        }
        let text = said.to_json().expect("both are defined");
        for junk in [6, u64::MAX] {
            assert_eq!(ProcessRecord::from_kv(text.as_bytes(), junk), Some(said));
        }
    }

    #[test]
    fn no_text_leads_to_a_state_that_receivers_refuse() {
        for text in ["", "M0_NC_UNKNOWN", "M0_NC_REPAIR", "unknown", "offline", "x", "repairing"] {
            for state in [of_device(text), of_hardware(Some(text), false)] {
                assert_ne!(state, ObjectState::Unknown);
            }
            assert!(!matches!(
                of_hardware(Some(text), false),
                ObjectState::Repair | ObjectState::Rebalance
            ));
        }
    }

    #[test]
    fn mkfs_never_makes_a_server_online() {
        for state in [ProcessEventKind::Started, ProcessEventKind::DtmRecovered] {
            let record = ProcessRecord::reported(state, ProcessType::Mkfs);
            assert_eq!(of_passing_process(Some(record), true), ObjectState::Transient);
        }
    }
}
