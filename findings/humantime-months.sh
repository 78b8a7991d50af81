#!/usr/bin/env bash
# humantime 2.4.0 (crates.io): `M` is a month, and a month is a fraction of a year.
#
# Guess:    `5M` is five minutes written loudly, or an error; 90 days are printed as 90 days.
# Seen:     `5M` is 13150080 s, five times 30.44 days. A duration of 90 days is printed as
#           "2months 29days 2h 52m 48s", and what it prints for 365 days begins with "11months".
# So here:  months and years are refused in every setting and flag, and nothing prints days this way.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
cargo init -q --name finding --vcs none
cargo add -q humantime@=2.4.0
cat > src/main.rs <<'RUST'
use humantime::format_duration;
use humantime::parse_duration;
use std::time::Duration;

fn main() {
    for text in ["5m", "5M", "1month", "1y"] {
        println!("{text} = {} s", parse_duration(text).unwrap().as_secs());
    }
    for days in [90, 365] {
        println!("{days} days = {}", format_duration(Duration::from_secs(days * 24 * 60 * 60)));
    }
}
RUST
diff - <(cargo run -q) <<'SEEN' && echo "as seen: months are 30.44 days, in and out"
5m = 300 s
5M = 13150080 s
1month = 2630016 s
1y = 31557600 s
90 days = 2months 29days 2h 52m 48s
365 days = 11months 30days 3h 50m 24s
SEEN
