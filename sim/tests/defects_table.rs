//! The table of defects is correct: every test in it exists, and every test with the number of a defect in
//! its name is in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The numbers of the findings from the field.
const FIELD: [std::ops::RangeInclusive<u32>; 3] = [1..=25, 30..=48, 50..=58];

/// Returns the files and the tests in the table, row by row.
fn named(table: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let is_row = |line: &&str| line.starts_with("| D") || line.starts_with("| F");
    for row in table.lines().filter(is_row) {
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
    let field = FIELD.into_iter().flatten().map(|n| format!("F{n}"));
    let numbers = (1..=39).map(|n| format!("D{n}")).chain(field);
    for number in numbers {
        let row = |line: &str| line.starts_with(&format!("| {number} "));
        assert!(table.lines().any(row), "{number} has no row");
    }
    for (file, test) in &named {
        let source = fs::read_to_string(root.join(file)).expect(file);
        assert!(source.contains(&format!("#[test]\nfn {test}()")), "{file} has no {test}");
    }
    let files: BTreeSet<&String> = named.iter().map(|(file, _)| file).collect();
    for file in files {
        let source = fs::read_to_string(root.join(file)).expect(file);
        let tests = source.lines().filter_map(|line| line.strip_prefix("fn ")?.split('(').next());
        let is_numbered = |test: &&str| {
            let number = test.strip_prefix(['d', 'f']).and_then(|rest| rest.split('_').next());
            number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        };
        for test in tests.filter(is_numbered) {
            assert!(named.iter().any(|(_, known)| known == test), "{test} is not in the table");
        }
    }
}
