//! The table of defects is true: every test that it names exists, and every test that is named after
//! a defect is in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The files and the tests that the table names, row by row.
fn named(table: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| D")) {
        let mut tests = Vec::new();
        for word in row.rsplit_once(" | ").expect("a last column").1.split('`').skip(1).step_by(2) {
            if Path::new(word).extension().is_some_and(|extension| extension == "rs") {
                found.extend(tests.drain(..).map(|test: &str| (word.to_owned(), test.to_owned())));
            } else {
                tests.push(word);
            }
        }
        assert!(tests.is_empty(), "a test without its file: {row}");
    }
    found
}

#[test]
fn every_test_that_is_named_exists_and_every_one_there_is_is_named() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    let table = fs::read_to_string(root.join("docs/DEFECTS.md")).expect("the table");
    let named = named(&table);
    for n in 1..=39 {
        let row = |line: &str| line.starts_with('|') && line.contains(&format!("D{n}"));
        assert!(table.lines().any(row), "D{n} has no row");
    }
    for (file, test) in &named {
        let source = fs::read_to_string(root.join(file)).expect(file);
        assert!(source.contains(&format!("#[test]\nfn {test}()")), "{file} has no {test}");
    }
    let files: BTreeSet<&String> = named.iter().map(|(file, _)| file).collect();
    for file in files {
        let source = fs::read_to_string(root.join(file)).expect(file);
        let tests = source.lines().filter_map(|line| line.strip_prefix("fn d")?.split('(').next());
        for test in tests.filter(|test| test.as_bytes()[0].is_ascii_digit()) {
            assert!(
                named.iter().any(|(_, known)| known.strip_prefix('d') == Some(test)),
                "d{test}"
            );
        }
    }
}
