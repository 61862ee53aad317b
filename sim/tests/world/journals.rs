//! The journal of a world's hax is what a daemon would have written: it replays alone.

use hax_core::journal::Bad;
use hax_sim::world::{Stage, Wanted, hunt, replay};

#[test]
fn a_journal_replays_as_it_was() {
    let mut stage = Stage::default();
    let wanted = Wanted { lines: 5, ..Wanted::default() };
    for seed in [1, 2] {
        let outcome = hunt::seed(&mut stage, seed, wanted);
        assert_eq!(outcome.violation, None);
        for journal in outcome.journals {
            let first = replay::replay(&journal, 5).expect("a journal");
            assert_eq!((&first.violation, first.bad), (&None, None));
            assert!(first.inputs > 100, "{} inputs", first.inputs);
            let again = replay::replay(&journal, 0).expect("a journal");
            assert_eq!(first.hash, again.hash);
            // Ended in the middle, as by a crash.
            let cut = replay::replay(&journal[..journal.len() - 3], 5).expect("a journal");
            assert_eq!(cut.violation, None);
            assert!(cut.inputs + 1 >= first.inputs || cut.bad == Some(Bad::CutOff));
        }
    }
}

#[test]
fn what_is_no_journal_is_said_to_be_none() {
    assert_eq!(replay::replay(b"x", 0).err(), Some(Bad::NotAJournal));
}
