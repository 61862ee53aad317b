//! Tests of journals: the journal of hax in a world is equal to that of a daemon, and it can be replayed
//! alone.

use hax_core::journal::JournalError;
use hax_sim::engine::{RunOptions, Search};
use hax_sim::worlds::bridge::Bridge;

#[test]
fn a_journal_replays_as_it_was() {
    let mut search = Search::<Bridge>::default();
    let options = RunOptions::default().lines(5);
    for seed in [1, 2] {
        let outcome = search.seed(seed, options);
        assert_eq!(outcome.violation, None);
        for journal in outcome.journals {
            let first = Search::<Bridge>::replay(&journal, 5).expect("a journal");
            assert_eq!((&first.violation, first.error), (&None, None));
            assert!(first.inputs > 100, "{} inputs", first.inputs);
            let again = Search::<Bridge>::replay(&journal, 0).expect("a journal");
            assert_eq!(first.hash, again.hash);
            // The journal ends in the middle of a record, as after a crash.
            let cut =
                Search::<Bridge>::replay(&journal[..journal.len() - 3], 5).expect("a journal");
            assert_eq!(cut.violation, None);
            assert!(cut.inputs + 1 >= first.inputs || cut.error == Some(JournalError::CutOff));
        }
    }
}

#[test]
fn what_is_no_journal_is_said_to_be_none() {
    assert_eq!(Search::<Bridge>::replay(b"x", 0).err(), Some(JournalError::NotAJournal));
}
