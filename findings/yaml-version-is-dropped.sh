#!/usr/bin/env bash
# saphyr-parser 0.3.3 and serde_yaml_ng 0.10.0 (crates.io): the version that a document declares changes nothing.
#
# Guess:    a document that begins with `%YAML 1.1` is read by the rules of 1.1, where `no` is false, or refused, or
#           its version is at least told to the caller.
# Seen:     serde_yaml_ng gives the text `no` for 1.1 and 1.2 alike. saphyr-parser gives the same events for both
#           (and for 1.3 and 2.0, which serde_yaml_ng refuses), and no event holds the version.
# So here:  a `%YAML` line of any version but 1.2 is an error, found before a parser looks.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
cargo init -q --name finding --vcs none
cargo add -q saphyr-parser@=0.3.3 --no-default-features
cargo add -q serde_yaml_ng@=0.10.0
cat > src/main.rs <<'RUST'
fn main() {
    let events = |text: &str| -> Result<Vec<String>, String> {
        saphyr_parser::Parser::new_from_str(text)
            .map(|event| event.map(|(event, _)| format!("{event:?}")).map_err(|error| error.to_string()))
            .collect()
    };
    let plain = events("%YAML 1.2\n---\na: no\n");
    for version in ["1.1", "1.2", "2.0"] {
        let text = format!("%YAML {version}\n---\na: no\n");
        let value = serde_yaml_ng::from_str::<serde_yaml_ng::Value>(&text).map(|value| value["a"].clone());
        let value = value.map_or_else(|_| "an error".to_owned(), |value| format!("{value:?}"));
        println!("{version}: saphyr-parser as for 1.2: {}; serde_yaml_ng: {value}", events(&text) == plain && plain.is_ok());
    }
}
RUST
diff - <(cargo run -q) <<'SEEN' && echo "as seen: nobody looks at the version"
1.1: saphyr-parser as for 1.2: true; serde_yaml_ng: String("no")
1.2: saphyr-parser as for 1.2: true; serde_yaml_ng: String("no")
2.0: saphyr-parser as for 1.2: true; serde_yaml_ng: an error
SEEN
