//! The limiter against simulated servers, in virtual time: the production state machine, scored against a reference that
//! knows the server.
//!
//! ```text
//! cargo bench --bench limiter -- [--scenarios FILE]... [--draws N] [--seed S] [--algorithm budget|adaptive] [--json]
//! ```
//!
//! `benches/scenarios-live.yaml` holds what `tests/blackbox/budget.rs` runs over loopback in real time; with `--scenarios`
//! the bench predicts the seconds and the 429s of that. Its goals mean nothing there.

mod oracle;
mod original;
mod report;
mod scenario;
mod world;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use clap::Parser;
use clap::ValueEnum;
use descope_gitops::simulator::rate_limit::rng;

use crate::report::Row;
use crate::report::Set;
use crate::scenario::Load;
use crate::scenario::Scenario;
use crate::scenario::seconds;
use crate::world::Outcomes;
use crate::world::Who;
use crate::world::World;
use crate::world::count;

#[derive(Parser)]
struct Args {
    /// Scenario files; by default the shared set and a second one of the same families.
    #[arg(long)]
    scenarios: Vec<PathBuf>,
    /// Runs of each scenario.
    #[arg(long, default_value_t = 5)]
    draws: u64,
    /// Another seed, another set of draws.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, value_enum, default_value_t = Choice::Budget)]
    algorithm: Choice,
    /// One JSON document instead of tables.
    #[arg(long)]
    json: bool,
    /// Only scenarios whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Leave out what it is compared with.
    #[arg(long)]
    no_baseline: bool,
    /// Cargo passes this.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Choice {
    Budget,
    Adaptive,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let files = if args.scenarios.is_empty() {
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches");
        ["scenarios.yaml", "scenarios-other.yaml"].map(|name| here.join(name)).to_vec()
    } else {
        args.scenarios.clone()
    };
    let mut sets = Vec::new();
    for file in files {
        let mut scenarios = scenario::load(&file)?;
        scenarios.retain(|scenario| args.only.as_ref().is_none_or(|only| scenario.name.contains(only)));
        sets.push(Set { name: file.display().to_string(), rows: score_all(&args, &scenarios) });
    }
    report::print(&sets, args.json)
}

/// Every scenario is a unit of work; the order of the rows is that of the file.
fn score_all(args: &Args, scenarios: &[Scenario]) -> Vec<Row> {
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let row = score(args, scenario);
                    rows.lock().unwrap_or_else(PoisonError::into_inner).push(row);
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by_key(|row: &Row| scenarios.iter().position(|scenario| scenario.name == row.name));
    rows
}

fn score(args: &Args, scenario: &Scenario) -> Row {
    let reference = scenario.oracle.unwrap_or_else(|| estimate(args, scenario));
    let until = seconds(8.0 * reference.makespan_s + 900.0);
    let runs = |who: Who| -> Vec<(f64, Outcomes)> {
        (0..args.draws)
            .map(|draw| World::new(scenario, who, seed(args.seed, draw)).run(until))
            .map(|outcomes| (score_of(scenario, reference, &outcomes), outcomes))
            .collect()
    };
    let baseline = |who: Who| if args.no_baseline { Vec::new() } else { runs(who) };
    let who = match args.algorithm {
        Choice::Budget => Who::Budget,
        Choice::Adaptive => Who::Adaptive,
    };
    Row::new(scenario, reference, &runs(who), &baseline(Who::Adaptive), &baseline(Who::Original))
}

fn score_of(scenario: &Scenario, reference: scenario::Oracle, run: &Outcomes) -> f64 {
    let completed = count(run.succeeded) / count(scenario.load.tasks().max(1));
    let speed = match scenario.load {
        Load::Batch { .. } => reference.makespan_s / run.makespan.max(1e-9),
        Load::Trickle { .. } | Load::Waves { .. } => (reference.p95_s + 5.0) / (run.p95 + 5.0),
    };
    completed * run.others * speed.min(1.0)
}

/// The mean of five omniscient runs.
fn estimate(args: &Args, scenario: &Scenario) -> scenario::Oracle {
    const DRAWS: u64 = 5;
    let runs: Vec<Outcomes> =
        (0..DRAWS).map(|draw| World::new(scenario, Who::Oracle, seed(args.seed, draw)).run(seconds(1e6))).collect();
    let mean = |of: fn(&Outcomes) -> f64| runs.iter().map(of).sum::<f64>() / count(runs.len());
    scenario::Oracle {
        goodput_per_s: mean(|run| count(run.succeeded) / run.makespan.max(1e-9)),
        makespan_s: mean(|run| run.makespan),
        p95_s: mean(|run| run.p95),
    }
}

fn seed(seed: u64, draw: u64) -> u64 {
    rng(seed.wrapping_mul(1_000_003).wrapping_add(draw)).u64(..)
}
