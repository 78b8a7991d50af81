//! docs/contributing.md is true: every line of its diffs stands in the file that it names.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::fs;

#[test]
fn the_diffs_of_the_page_are_real() {
    let page = fs::read_to_string("docs/contributing.md").unwrap();
    let mut lines = 0;
    let mut file = String::new();
    for line in page.lines() {
        if let Some(path) = line.strip_prefix("+++ b/") {
            file = fs::read_to_string(path).unwrap();
        } else if let Some(added) = line.strip_prefix('+') {
            assert!(file.lines().any(|line| line == added), "{added}");
            lines += 1;
        }
    }
    assert!(lines > 20, "the page has only {lines} lines of diffs");
}
