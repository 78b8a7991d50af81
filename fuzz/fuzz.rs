//! The targets of `src/hostile.rs` under libFuzzer; `FUZZ_TARGET` says which.
#![no_main]

use descope_gitops::hostile::TARGETS;
use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    TARGETS.iter().find(|target| target.name == name).expect("a target of src/hostile.rs").attempt
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));
