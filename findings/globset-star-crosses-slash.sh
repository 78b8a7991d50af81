#!/usr/bin/env bash
# globset 0.4.21 (crates.io): `*`, `?` and classes match `/` unless the builder is told otherwise.
#
# Guess:    `shared/*.yaml` names the files of one folder, as in a shell and in .gitignore.
# Seen:     it also names `shared/deep/a.yaml`, and `a?b` names `a/b`. `literal_separator(true)` ends both, but a class
#           such as `[!x]` matches `/` all the same. `vendor`, on the other hand, names nothing that lies below it.
# So here:  the globs of `source.exclude` cross `/`, the README says so, and `validate` lists what they leave out;
#           a directory that a glob names is left out with all that is below it.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
cargo init -q --name finding --vcs none
cargo add -q globset@=0.4.21 --no-default-features
cat > src/main.rs <<'RUST'
use globset::GlobBuilder;

fn main() {
    for (glob, path) in [("shared/*.yaml", "shared/deep/a.yaml"), ("a?b", "a/b"), ("a[!x]b", "a/b"), ("vendor", "vendor/a.yaml")] {
        let matches = |literal: bool| GlobBuilder::new(glob).literal_separator(literal).build().unwrap().compile_matcher().is_match(path);
        let plain = globset::Glob::new(glob).unwrap().compile_matcher().is_match(path);
        println!("{glob} names {path}: {plain}; with literal_separator(true): {}", matches(true));
    }
}
RUST
diff - <(cargo run -q) <<'SEEN' && echo "as seen: a star does not stop at a slash"
shared/*.yaml names shared/deep/a.yaml: true; with literal_separator(true): false
a?b names a/b: true; with literal_separator(true): false
a[!x]b names a/b: true; with literal_separator(true): true
vendor names vendor/a.yaml: false; with literal_separator(true): false
SEEN
