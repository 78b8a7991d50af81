#!/usr/bin/env bash
# serde_json 1.0.154 and jsonschema 0.61.2 (crates.io), cargo's resolver: a dependency of tests alone changes what a number is.
#
# Guess:    serde_json reads a number with all its digits as the standard library does; and what tests see is what is shipped.
# Seen:     without its feature `float_roundtrip`, about one number of 16 to 17 digits in ten is read as a neighbour. A crate
#           in [dev-dependencies] that asks for the feature turns it on for `cargo test`, its binaries included, and `cargo
#           build` leaves it off: the test passes, and the program that is shipped reads another number.
# So here:  the feature is asked for by name, and a test looks at the features of what is shipped. Before that, such a
#           number in an answer never equalled the same one in YAML, and was written again in every pass.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
cargo init -q --lib --name finding --vcs none
cargo add -q serde_json@=1.0.154
cargo add -q --dev jsonschema@=0.61.2 --no-default-features
mkdir -p src/bin tests
cat > src/bin/shipped.rs <<'RUST'
fn main() {
    let (mut others, mut seed) = (0, 12345_u64);
    for _ in 0..100_000 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let number = (seed >> 11) as f64 / (1_u64 << 53) as f64;
        let read: f64 = serde_json::from_str(&number.to_string()).unwrap();
        others += u32::from(read != number);
    }
    println!("{} in a hundred are read as another number", others / 1000);
}
RUST
cat > tests/test.rs <<'RUST'
#[test]
fn test() {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_shipped")).output().unwrap();
    std::fs::write("seen-by-the-test", out.stdout).unwrap();
}
RUST
cargo test -q > /dev/null 2>&1
cargo build -q
diff - <(echo "the test: $(cat seen-by-the-test)"; echo "shipped: $(target/debug/shipped)") <<'SEEN' && echo "as seen: the test and what is shipped disagree"
the test: 0 in a hundred are read as another number
shipped: 10 in a hundred are read as another number
SEEN
