use std::time::Duration;

use proptest::prelude::*;

use super::laboratory::Seen;
use super::laboratory::Trial;
use super::laboratory::World;
use crate::limiter::Settings;

fn most_in_a_window(seen: &Seen, window: Duration) -> usize {
    let arrived = &seen.arrived;
    (0..arrived.len())
        .map(|last| last + 1 - arrived.partition_point(|&at| at + window <= arrived[last]))
        .max()
        .unwrap_or_default()
}

fn trial(n: u32, window_s: u32) -> Trial {
    Trial {
        seed: 1,
        replicas: 3,
        settings: Settings { limit: Some((f64::from(n), Duration::from_secs(window_s.into()))), ..Settings::default() },
        truth: usize::MAX,
        rate: 0.5 * f64::from(n) / f64::from(window_s),
        store_ms: 20,
        lost: 0,
        faults_s: 0,
        lasts: Duration::from_secs(window_s.into()) * 4,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 20, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever dies, stands still, or does not reach the store.
    #[test]
    fn a_window_holds_no_more_than_the_limit_and_no_slot_is_lost_for_ever(
        seed: u64,
        replicas in 1..6_usize,
        n in 1..60_u32,
        window_s in 12..24_u32,
        store_ms in 1..300_u64,
        lost in prop_oneof![Just(0_u32), 3..30_u32],
        faults_s in prop_oneof![Just(0_u64), 2..30_u64],
    ) {
        let seen = World::new(Trial { seed, replicas, store_ms, lost, faults_s, ..trial(n, window_s) }).run();

        let most = most_in_a_window(&seen, Duration::from_secs(window_s.into()));
        prop_assert!(most <= n as usize, "{most} of {n}");
        prop_assert_eq!(seen.at_last, n as usize);
    }

    /// The limit is lower than documented: refusals come while several have calls out.
    #[test]
    fn nobody_but_one_trial_at_a_time_is_sent_into_a_closed_gate(
        seed: u64,
        replicas in 2..6_usize,
        n in 10..60_u32,
        window_s in 4..16_u32,
        store_ms in 1..100_u64,
        lost in prop_oneof![Just(0_u32), 3..30_u32],
    ) {
        let truth = n as usize / 2;
        let seen = World::new(Trial { seed, replicas, truth, store_ms, lost, ..trial(n, window_s) }).run();

        prop_assert_eq!(seen.into_closed, 0);
        prop_assert!(seen.trials <= 1, "{} trials at once", seen.trials);
    }

    #[test]
    fn who_waits_longer_goes_first(
        seed: u64,
        replicas in 2..6_usize,
        n in 5..60_u32,
        window_s in 4..16_u32,
        store_ms in 1..20_u64,
    ) {
        let seen = World::new(Trial { seed, replicas, store_ms, ..trial(n, window_s) }).run();

        prop_assert!(seen.overtaken < Duration::from_secs(2), "by {:?}", seen.overtaken);
    }
}
