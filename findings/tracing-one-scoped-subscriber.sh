#!/usr/bin/env bash
# tracing 0.1.44, tracing-core 0.1.36, tracing-subscriber 0.3.23 (crates.io): with one scoped subscriber, which thread reaches an event
# first decides for all threads.
#
# Guess:    a subscriber that a test sets with `set_default` gets every event of its thread, whatever other tests do meanwhile.
# Seen:     while it is the only subscriber of the process, an event that another thread, which has none, reaches first is off from
#           then on, in the thread that has one, too. With a second subscriber anywhere, though nobody uses it, the event arrives: only
#           then are all subscribers asked, and not the one of the thread that happens to come first.
# So here:  the test of what the client logs makes a second subscriber. Without it that test failed once in some hundred runs, as
#           other tests of its binary use the same client at the same time.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
cargo init -q --name finding --vcs none
cargo add -q tracing@=0.1.44 tracing-core@=0.1.36
cargo add -q tracing-subscriber@=0.3.23 --no-default-features --features fmt
cat > src/main.rs <<'RUST'
use std::io;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn first() {
    tracing::info!("of a program with one subscriber");
}

fn second() {
    tracing::info!("of a program with two");
}

/// Does the event arrive here, where another thread, without a subscriber, has reached it before?
fn arrives(event: fn()) -> bool {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    std::thread::spawn(event).join().unwrap();
    event();
    let told = !log.0.lock().unwrap().is_empty();
    told
}

fn main() {
    println!("one subscriber: {}", arrives(first));
    let _other = tracing::Dispatch::new(tracing_subscriber::registry());
    println!("two subscribers: {}", arrives(second));
}
RUST
diff - <(cargo run -q) <<'SEEN' && echo "as seen: a thread without a subscriber turns the event off for all"
one subscriber: false
two subscribers: true
SEEN
