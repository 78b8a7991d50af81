//! Replays the corpus, as it is and spoilt.

use super::TARGETS;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// What means something to one format or another.
#[rustfmt::skip]
const TOKENS: &[&[u8]] = &[
    b"&a ", b"*a", b"- ", b": ", b":\t", b"\t", b"{", b"}", b"[", b"]", b"\"", b"'", b"|\n", b">-\n", b"%YAML 1.1\n",
    b"\xef\xbb\xbf", b"<<: ", b"!x ", b"\0", b"---\n", b"...\n", b"? ", b"# ", b"\n", b"\r\n", b"  ", b"~", b"null", b".nan",
    b"1e999", b"=======\n", b"\xcc\x81", b"\xe2\x80\xae", b"%00", b"-1", b"18446744073709551616", b";", b",", b"404 ",
];

/// For so long nothing that is as small as the corpus may take.
const LONGEST: Duration = Duration::from_secs(20);

/// Cut, doubled, swapped, or with something in it that means something.
fn spoilt(bytes: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.usize(1..5) {
        let at = random.usize(0..=bytes.len());
        let end = (at + random.usize(0..40)).min(bytes.len());
        match random.u8(0..5) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let copy = bytes[at..end].repeat(random.usize(1..6));
                bytes.splice(at..at, copy);
            }
            2 => bytes.truncate(at),
            3 if at < end => bytes[at] = random.u8(..),
            _ => drop(bytes.splice(at..at, TOKENS[random.usize(0..TOKENS.len())].iter().copied())),
        }
    }
    bytes
}

/// Lets in each file of a target's corpus, and what it becomes.
fn replay(name: &str, rounds: usize) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let mut random = fastrand::Rng::with_seed(7);
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|item| item.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let bytes = fs::read(&file).unwrap();
        // What the fuzzer found bears a digest for a name, and is near enough to what we wrote.
        let rounds = if file.file_name().unwrap().len() == 40 { 0 } else { rounds };
        for round in 0..=rounds {
            let bytes = if round == 0 { bytes.clone() } else { spoilt(&bytes, &mut random) };
            let start = Instant::now();
            (target.attempt)(&bytes);
            assert!(start.elapsed() < LONGEST, "{}: it takes for ever: {:?}", file.display(), bytes.escape_ascii());
        }
    }
}

#[test]
fn files_of_the_repo() {
    replay("desired", 1000);
}

#[test]
fn settings() {
    replay("config", 1000);
}

#[test]
fn answers_of_the_api() {
    replay("answers", 5);
}

#[test]
fn answers_to_writes() {
    replay("writes", 10);
}

#[test]
fn headers_of_answers() {
    replay("headers", 200);
}

#[test]
fn events_of_the_limiter() {
    replay("limiter", 50);
}

#[test]
fn events_of_replicas_that_share_a_limit() {
    replay("replicas", 10);
}

#[test]
fn what_git_says() {
    replay("git", 50);
}

#[test]
fn requests_to_the_daemon() {
    replay("requests", 30);
}

#[test]
fn every_corpus_has_a_target() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut found: Vec<_> = fs::read_dir(dir).unwrap().map(|item| item.unwrap().file_name()).collect();
    found.sort();

    let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    names.sort_unstable();

    assert_eq!(found, names);
}
