//! `docs/oci.md` and the code say the same: every property of the list has one
//! row, refused ones with their message, honoured ones with tests that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use pod::config::{Answer, PROPERTIES};

/// Of a table: first cell, state, third cell.
fn rows(page: &str, section: &str) -> Vec<(String, String, String)> {
    let begin = page.find(&format!("\n## {section}\n")).expect("the section");
    let rest = &page[begin + 4..];
    let end = rest.find("\n## ").unwrap_or(rest.len());
    let row = |line: &str| {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 3, "{line}");
        (cells[0].to_string(), cells[1].to_string(), cells[2].to_string())
    };
    rest[..end].lines().filter(|line| line.starts_with("| ")).skip(1).map(row).collect()
}

/// Names of all test functions of the source tree.
fn tests() -> BTreeSet<String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut names = BTreeSet::new();
    for dir in ["crates/pod/src", "crates/pod/tests", "tests/tests/suite/cases"] {
        collect(&root.join(dir), &mut names);
    }
    names
}

fn collect(dir: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            let named = text.lines().filter_map(|line| line.trim_start().strip_prefix("fn "));
            names.extend(named.filter_map(|rest| Some(rest.split_once('(')?.0.to_string())));
        }
    }
}

fn named(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_table_and_the_code_agree() {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/oci.md");
    let page = fs::read_to_string(page).expect("docs/oci.md");
    let tests = tests();
    let mut listed = BTreeMap::new();
    for (name, state, text) in rows(&page, "Properties") {
        let name = name.trim_matches('`').to_string();
        assert!(listed.insert(name.clone(), (state, text)).is_none(), "{name} has two rows");
    }
    for (name, answer) in PROPERTIES {
        let (state, text) = listed.remove(*name).unwrap_or_else(|| panic!("{name} has no row"));
        match (state.as_str(), answer) {
            ("honoured", Answer::Honoured) => check_tests(&tests, name, &text),
            ("refused", Answer::Refused(reason) | Answer::Beyond(reason)) => assert_eq!(text, *reason, "{name}"),
            (state, answer) => panic!("{name}: {state} on the page, {answer:?} in the code"),
        }
    }
    assert!(listed.is_empty(), "rows of properties that are not on the list: {:?}", listed.keys());
    for (rule, state, text) in rows(&page, "Operations") {
        match state.as_str() {
            "honoured" => check_tests(&tests, &rule, &text),
            other => panic!("{rule}: {other}"),
        }
    }
}

fn check_tests(tests: &BTreeSet<String>, what: &str, cell: &str) {
    let wanted = named(cell);
    assert!(!wanted.is_empty(), "{what} is honoured, and no test shows it");
    for test in wanted {
        assert!(tests.contains(test), "{what}: there is no test {test}");
    }
}
