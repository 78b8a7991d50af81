#!/usr/bin/env bash
# serde_yaml_ng 0.10.0 (crates.io): which plain values are numbers is decided by neither YAML 1.1 nor 1.2.
#
# Guess:    the core schema of YAML 1.2: `007` is seven, `0b11` a text; or that of 1.1: `007` and `0b11` are numbers.
# Seen:     `007` and `010` are texts, `0b11` is three, `0o17` fifteen.
# So here:  files of the desired state are read by the core schema of 1.2 to the letter. An id of digits wants
#           quotes; without them it is an error instead of a guess.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
cargo init -q --name finding --vcs none
cargo add -q serde_yaml_ng@=0.10.0
cat > src/main.rs <<'RUST'
use serde_yaml_ng::Value;

fn main() {
    for text in ["007", "010", "0b11", "0o17", "0x1F", "no"] {
        println!("{text}: {:?}", serde_yaml_ng::from_str::<Value>(text).unwrap());
    }
}
RUST
diff - <(cargo run -q) <<'SEEN' && echo "as seen: a schema of its own"
007: String("007")
010: String("010")
0b11: Number(3)
0o17: Number(15)
0x1F: Number(31)
no: String("no")
SEEN
