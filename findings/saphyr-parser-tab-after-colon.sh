#!/usr/bin/env bash
# saphyr-parser 0.3.3 (crates.io): a tab after the colon of a key is refused before a word or number, and only there.
#
# Guess:    YAML 1.2 separates tokens by spaces and tabs alike (production 66, s-separate-in-line), so `a:<TAB>b`
#           is what `a: b` is, as it is to libyaml.
# Seen:     `a:<TAB>b` is an error; the same tab before a quoted or a block text or a list in brackets is fine, and
#           so is a word when a space comes before the tab. libyaml reads them all.
# So here:  such a tab is read as a space, unless it lies inside of a text.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
cargo init -q --name finding --vcs none
cargo add -q saphyr-parser@=0.3.3 --no-default-features
cargo add -q serde_yaml_ng@=0.10.0
cat > src/main.rs <<'RUST'
fn main() {
    for text in ["a:\tb\n", "a:\t1\n", "a:\t'b'\n", "a:\t[b]\n", "a:\t|\n  b\n", "a: \tb\n"] {
        let saphyr = saphyr_parser::Parser::new_from_str(text).find_map(Result::err);
        let libyaml = serde_yaml_ng::from_str::<serde_yaml_ng::Value>(text);
        let saphyr = saphyr.map_or("reads it".to_owned(), |error| error.info().to_owned());
        println!("{text:?}: saphyr-parser: {saphyr}; libyaml reads it: {}", libyaml.is_ok());
    }
}
RUST
diff - <(cargo run -q) <<'SEEN' && echo "as seen: a tab is a blank before everything but a word or number"
"a:\tb\n": saphyr-parser: ':' must be followed by a valid YAML whitespace; libyaml reads it: true
"a:\t1\n": saphyr-parser: ':' must be followed by a valid YAML whitespace; libyaml reads it: true
"a:\t'b'\n": saphyr-parser: reads it; libyaml reads it: true
"a:\t[b]\n": saphyr-parser: reads it; libyaml reads it: true
"a:\t|\n  b\n": saphyr-parser: reads it; libyaml reads it: true
"a: \tb\n": saphyr-parser: reads it; libyaml reads it: true
SEEN
