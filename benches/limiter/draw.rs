//! Draws a scenario file around the families of another: other windows, limits, latencies, crowds and headers.

use descope_gitops::simulator::rate_limit::rng;

use crate::scenario::Header;
use crate::scenario::Load;
use crate::scenario::Scenario;
use crate::scenario::ServerKind;

/// Of each scenario so many.
const OF_EACH: usize = 2;

/// The file, without references: the bench computes them.
pub fn draw(families: &[Scenario], seed: u64) -> anyhow::Result<String> {
    let mut rng = rng(seed);
    let mut scenarios = Vec::new();
    for _ in 0..OF_EACH {
        for family in families {
            scenarios.push(near(family, scenarios.len(), &mut rng));
        }
    }
    let mut file = format!(
        "# Drawn once around the families of scenarios.yaml, and only measured: nothing is shaped on it. Made by\n\
         #   cargo bench --bench limiter -- --draw {seed}\n\
         version: 1\nscenarios:\n"
    );
    // A line each: JSON is YAML.
    for scenario in scenarios {
        file.extend(["  - ", &serde_json::to_string(&scenario)?, "\n"]);
    }
    Ok(file)
}

fn pick(rng: &mut fastrand::Rng, of: &[f64]) -> f64 {
    of[rng.usize(..of.len())]
}

fn near(family: &Scenario, number: usize, rng: &mut fastrand::Rng) -> Scenario {
    let mut it = family.clone();
    it.name = format!("{}-{number}", family.name);
    it.oracle = None;
    let window_s = pick(rng, &[10.0, 20.0, 30.0, 60.0, 60.0, 90.0]);
    let slower = window_s / family.server.window_s;
    let more = pick(rng, &[0.4, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0]);
    let longer = pick(rng, &[0.6, 0.8, 1.0, 1.3, 1.7]);
    let whole = |value: f64| value.round().max(2.0);
    let lockout_s = if family.server.lockout_s > 0.0 { window_s } else { 0.0 };

    (it.server.n, it.documented.n) = (whole(family.server.n * more), whole(family.documented.n * more));
    (it.server.window_s, it.documented.window_s) = (window_s, window_s);
    (it.server.lockout_s, it.documented.lockout_s) = (lockout_s, lockout_s);
    it.server.burst = family.server.burst.map(|burst| whole(burst * more * pick(rng, &[0.5, 1.0, 1.5])));
    if matches!(family.server.kind, ServerKind::FixedWindow | ServerKind::SlidingLog) && rng.f64() < 0.3 {
        let kinds = [ServerKind::FixedWindow, ServerKind::SlidingLog, ServerKind::SlidingCounter];
        it.server.kind = kinds[rng.usize(..kinds.len())];
    }
    if matches!(family.server.retry_after, Header::Seconds) {
        let headers = [Header::Seconds, Header::Seconds, Header::Seconds, Header::Floor, Header::Absent];
        it.server.retry_after = headers[rng.usize(..headers.len())];
    }
    it.server.extending |= lockout_s > 0.0 && rng.f64() < 0.2;
    it.latency.median_s = pick(rng, &[0.05, 0.1, 0.2, 0.3, 0.5]);
    if family.workers > 1 {
        it.workers = [4, 8, 16, 16, 32, 64][rng.usize(..6)];
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of tasks")]
    let scale = |tasks: usize, by: f64| whole(crate::world::count(tasks) * by) as usize;
    it.load = match family.load {
        Load::Batch { tasks } => Load::Batch { tasks: scale(tasks, more * longer) },
        Load::Trickle { tasks, rate_per_s } => {
            Load::Trickle { tasks: scale(tasks, more * longer), rate_per_s: rate_per_s * more / slower }
        }
        Load::Waves { tasks, size, every_s } => {
            Load::Waves { tasks: scale(tasks, more * longer), size: scale(size, more), every_s: every_s * slower }
        }
    };
    if let Some(others) = &mut it.background {
        others.rate_per_s *= more / slower * pick(rng, &[0.5, 0.8, 1.0, 1.3]);
        let on_off = [(100.0, 200.0), (200.0, 100.0), (200.0, 200.0), (400.0, 200.0)][rng.usize(..4)];
        (others.on_s, others.off_s) = (others.on_s.map(|_| on_off.0), others.off_s.map(|_| on_off.1));
    }
    let sooner = pick(rng, &[0.3, 0.6, 1.0]);
    it.steps = family.steps.iter().map(|&(at, n)| ((at * slower * sooner).round(), whole(n * more))).collect();
    it.warm_used = if family.warm_used > 0 { scale(family.warm_used, more) } else { 0 };
    it
}
