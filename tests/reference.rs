//! docs/desired-state.md says what the tables say.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::fs;

const PAGE: &str = "docs/desired-state.md";

/// What stands above the first section is written by hand.
#[test]
fn the_reference_is_that_of_the_tables() {
    let text = fs::read_to_string(PAGE).unwrap();
    let (by_hand, _) = text.split_once("\n## `").unwrap();
    let expected = format!("{by_hand}\n{}", descope_gitops::resource::reference::markdown().trim_end());

    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(PAGE, format!("{expected}\n")).unwrap();
        return;
    }
    assert!(
        text.trim_end() == expected,
        "{PAGE} is not what the tables say; UPDATE_REFERENCE=1 cargo test --test reference writes it anew"
    );
}
