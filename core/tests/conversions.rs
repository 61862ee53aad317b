//! Conversions between wire numbers, texts and states are total: every number and every text has a meaning,
//! no result is one that receivers refuse, and a round trip returns the same value.

use hax_core::base::fid::Fid;
use hax_core::cluster::health::process_of_service_id;
use hax_core::cluster::states::{
    ProcessRecord, device_text, hardware_text, of_device, of_hardware, of_passing_process,
    process_text,
};
use hax_core::ha::note::{NvecKind, ObjectState};
use hax_core::ha::process::{ProcessEventKind, ProcessType};
use quickcheck::quickcheck;

/// All states that have a name.
const STATES: [ObjectState; 8] = [
    ObjectState::Unknown,
    ObjectState::Online,
    ObjectState::Failed,
    ObjectState::Transient,
    ObjectState::Repair,
    ObjectState::Repaired,
    ObjectState::Rebalance,
    ObjectState::DtmRecovering,
];

/// Returns whether a state may be sent to a process about any object.
fn is_told(state: ObjectState, may_repair: bool) -> bool {
    match state {
        ObjectState::Unknown | ObjectState::Undefined(_) => false,
        ObjectState::Repair | ObjectState::Rebalance => may_repair,
        _ => true,
    }
}

fn numbers_come_back(n: u64) -> bool {
    let state =
        u32::try_from(n & 0xffff_ffff).is_ok_and(|n| ObjectState::from_wire(n).to_wire() == n);
    state
        && ProcessEventKind::from_wire(n).to_wire() == n
        && ProcessType::from_wire(n).to_wire() == n
        && NvecKind::from_wire(n).to_wire() == n
}

#[test]
fn numbers_around_those_that_are_defined_come_back() {
    let own = 0xffff_ffff_ffff_ff00;
    assert!((0..300).chain(own - 3..=own + 3).all(numbers_come_back));
}

#[test]
fn every_defined_word_has_a_text_that_leads_back_to_it() {
    let kinds = [0, 1, 2, 3, 0xffff_ffff_ffff_ff00].map(ProcessType::from_wire);
    for state in (0..5).map(ProcessEventKind::from_wire) {
        for kind in kinds {
            let word = ProcessRecord::reported(state, kind);
            let text = word.to_json().expect("it is defined");
            assert_eq!(ProcessRecord::from_kv(text.as_bytes(), word.flags()), Some(word));
        }
    }
}

#[test]
fn every_state_has_a_text_that_is_read_as_one_that_may_be_told() {
    for state in
        STATES.into_iter().chain([ObjectState::Undefined(8), ObjectState::Undefined(u32::MAX)])
    {
        let device = of_device(device_text(state));
        assert!(is_told(device, true), "{state}: {device}");
        // A second round trip returns the same value.
        assert_eq!(of_device(device_text(device)), device);
        for may_repair in [false, true] {
            let hardware = of_hardware(Some(hardware_text(state)), may_repair);
            assert!(is_told(hardware, may_repair), "{state}: {hardware}");
            assert_eq!(of_hardware(Some(hardware_text(hardware)), may_repair), hardware);
        }
        assert!(["online", "failed", "dtm_recovering", "offline"].contains(&process_text(state)));
    }
}

quickcheck! {
    fn numbers_come_back_whatever_they_are(n: u64) -> bool {
        numbers_come_back(n)
    }

    fn any_text_is_a_state_that_may_be_told(text: String, may_repair: bool) -> bool {
        is_told(of_device(&text), true) && is_told(of_hardware(Some(&text), may_repair), may_repair)
    }

    fn any_word_is_a_state_that_may_be_told(state: u64, kind: u64, settles: bool) -> bool {
        let small = [state % 8, state].into_iter().flat_map(|state| [(state, kind % 8), (state, kind)]);
        small.into_iter().all(|(state, kind)| {
            let (state, kind) = (ProcessEventKind::from_wire(state), ProcessType::from_wire(kind));
            is_told(of_passing_process(Some(ProcessRecord::reported(state, kind)), settles), false)
        })
    }

    fn any_bytes_are_a_word_or_none(bytes: Vec<u8>, flags: u64) -> bool {
        // A record that can be parsed is written, and parsed again as the same record.
        ProcessRecord::from_kv(&bytes, flags).is_none_or(|word| {
            let text = word.to_json().expect("what has a text was read from one");
            ProcessRecord::from_kv(text.as_bytes(), word.flags()) == Some(word)
        })
    }

    fn fids_are_read_as_they_are_written(container: u64, key: u64) -> bool {
        let fid = Fid::new(container, key);
        let padded = format!("<0X{container:016X}:0x{key:020x}>");
        fid.to_string().parse() == Ok(fid) && (key >> 60 > 0 || padded.parse() == Ok(fid))
    }

    fn any_text_is_a_fid_or_none(text: String) -> bool {
        text.parse::<Fid>().is_err() || text.contains(':')
    }

    fn a_service_id_is_a_process_or_none(key: u64, text: String) -> bool {
        process_of_service_id(&key.to_string()) == Some(Fid::process(key))
            && process_of_service_id(&text).is_none_or(Fid::is_process)
    }
}
