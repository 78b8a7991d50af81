//! What nobody writes on purpose: the corpus under `tests/corpus`, as it is and spoilt in many ways, must end in findings,
//! without a panic, a hang or memory without bound. `FUZZ_SECONDS=600 cargo test --release hostile` does it for longer.

use crate::config::Config;
use crate::config::Overrides;
use crate::desired::check::Checker;
use crate::desired::findings::MOST;
use crate::desired::merge;
use crate::desired::secrets::Fence;
use crate::desired::testing::KINDS;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const TOKENS: &[&str] = &[
    "&a ",
    "*a",
    "- ",
    ": ",
    ":\t",
    "\t",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "|\n",
    ">-\n",
    "%YAML 1.1\n",
    "\u{feff}",
    "<<: ",
    "!x ",
    "\0",
    "---\n",
    "...\n",
    "? ",
    "# ",
    "\n",
    "\r\n",
    "  ",
    "~",
    "null",
    ".nan",
    "1e999",
    "=======\n",
    "\u{301}",
];

fn corpus(name: &str) -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let files = fs::read_dir(dir).unwrap().map(|item| fs::read_to_string(item.unwrap().path()).unwrap());
    files.collect()
}

/// Cut, doubled, swapped, or with something in it that means something to YAML.
fn spoilt(text: &str, random: &mut fastrand::Rng) -> String {
    let mut text: Vec<char> = text.chars().collect();
    for _ in 0..random.usize(1..5) {
        let at = random.usize(0..=text.len());
        let end = (at + random.usize(0..40)).min(text.len());
        match random.u8(0..5) {
            0 => drop(text.drain(at..end)),
            1 => {
                let copy: Vec<char> = text[at..end].to_vec();
                let times = random.usize(1..6);
                text.splice(at..at, copy.repeat(times));
            }
            2 => text.truncate(at),
            3 if at < end => text[at] = random.char(..),
            _ => drop(text.splice(at..at, TOKENS[random.usize(0..TOKENS.len())].chars())),
        }
    }
    text.into_iter().collect()
}

/// Tries each text, and what it becomes.
fn each_spoilt(name: &str, rounds: usize, mut attempt: impl FnMut(&str)) {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let mut random = fastrand::Rng::with_seed(7);
    let start = Instant::now();
    for text in corpus(name) {
        attempt(&text);
        let mut round = 0;
        while seconds.map_or(round < rounds, |most| start.elapsed() < most) {
            let spoilt = spoilt(&text, &mut random);
            let start = Instant::now();
            attempt(&spoilt);
            assert!(start.elapsed() < Duration::from_secs(20), "it takes for ever: {spoilt:?}");
            round += 1;
        }
    }
}

#[test]
fn spoilt_files_end_in_findings() {
    let fence = Fence::default();
    let checker = Checker { kinds: KINDS, fence: &fence };

    each_spoilt("desired", 1500, |text| {
        let report = checker.check(&Arc::from("a.yaml"), text);
        // To YAML, a carriage return alone ends a line as well.
        let lines =
            u32::try_from((text.matches(['\n', '\r']).count() + usize::from(!text.ends_with(['\n', '\r']))).max(1))
                .unwrap();
        assert!(report.errors.iter().all(|error| error.place.line <= lines), "{text:?}");
        let merged = merge::merge(KINDS, &[Arc::new(report)]);
        assert!(merged.errors.len() <= MOST);
        assert!(merged.errors.iter().chain(merged.warnings.iter()).all(|one| one.to_string().len() < 10_000));
    });
}

#[test]
fn spoilt_settings_end_in_problems() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("config.yaml");
    let overrides = Overrides { config: Some(path.to_str().unwrap().to_owned()), ..Overrides::default() };

    each_spoilt("config", 1500, |text| {
        fs::write(&path, text).unwrap();
        if let Err(invalid) = Config::load(&overrides) {
            assert!(!invalid.0.is_empty(), "{text:?}");
        }
    });
}
