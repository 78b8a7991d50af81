//! The limiter against simulated servers, in virtual time: the production state machine, scored against a reference that
//! knows the server.
//!
//! ```text
//! cargo bench --bench limiter -- [--draws N] [--seed S] [--algorithm budget|adaptive] [--only NAME] [--no-rivals] [--json]
//!     [--scenarios FILE]... [--limit-null] [--window-factor F] [--rate-headers true|full|zero|stale]
//! ```
//!
//! Without the second line all files are run, and the shared one once more with `limit: null` and with a documented window that is
//! wrong by 6 either way, the neighbours' scenarios with rate headers, and the shared ones with headers that lie.
//!
//! With `--replicas N` it runs N replicas that share one budget instead (`replicas.rs`).
//!
//! `scenarios.yaml` and `scenarios-other.yaml` are what the limiter was shaped on, as are their variants. `scenarios-drawn.yaml` and
//! `scenarios-held.yaml` were drawn and are only measured: shape nothing on them. `scenarios-live.yaml` holds what
//! `tests/blackbox/budget.rs` runs over loopback in real time; with `--scenarios` the bench predicts the seconds and the 429s of that.

mod draw;
mod oracle;
mod replicas;
mod report;
mod rivals;
mod scenario;
mod world;

use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use clap::Parser;
use clap::ValueEnum;
use descope_gitops::simulator::rate_headers::Honesty;
use descope_gitops::simulator::rate_limit::rng;

use crate::report::Baseline;
use crate::report::Row;
use crate::report::Set;
use crate::report::What;
use crate::scenario::Load;
use crate::scenario::Scenario;
use crate::scenario::seconds;
use crate::world::Outcomes;
use crate::world::Who;
use crate::world::World;
use crate::world::count;

#[derive(Parser)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag")]
struct Args {
    /// Scenario files, instead of all and their variants.
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
    #[arg(long, alias = "no-baseline")]
    no_rivals: bool,
    /// Tell the client no limit.
    #[arg(long)]
    limit_null: bool,
    /// Tell the client a window that is so many times the documented one.
    #[arg(long, default_value_t = 1.0)]
    window_factor: f64,
    /// Have every answer say what is left.
    #[arg(long, value_enum)]
    rate_headers: Option<Honesty>,
    /// Print a file of scenarios drawn around the shared ones from this seed, and run nothing.
    #[arg(long)]
    draw: Option<u64>,
    /// Run so many replicas behind one address instead, with one budget.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    replicas: Option<u16>,
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
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches");
    let load = |file: &Path| -> anyhow::Result<Vec<Scenario>> {
        let mut scenarios = scenario::load(file)?;
        scenarios.retain(|scenario| args.only.as_ref().is_none_or(|only| scenario.name.contains(only)));
        Ok(scenarios)
    };
    if let Some(seed) = args.draw {
        let file = draw::draw(&load(&here.join("scenarios.yaml"))?, seed)?;
        return Ok(std::io::stdout().lock().write_all(file.as_bytes())?);
    }
    if let Some(number) = args.replicas {
        let shared = load(&here.join("scenarios.yaml"))?;
        return replicas::run(usize::from(number), &shared, args.draws, args.seed, args.json);
    }
    let mut sets = Vec::new();
    let mut run = |what: What, name: String, scenarios: &[Scenario]| {
        let rows = score_all(&args, what, scenarios);
        sets.push(Set { name, what, rows });
    };
    let asked =
        Variant { limit_null: args.limit_null, window_factor: args.window_factor, rate_headers: args.rate_headers };
    if asked != Variant::default() || !args.scenarios.is_empty() {
        let shared = vec![here.join("scenarios.yaml")];
        for file in if args.scenarios.is_empty() { &shared } else { &args.scenarios } {
            run(asked.what(), format!("{}{}", file.display(), asked.name()), &asked.of(&load(file)?));
        }
        return report::print(&sets, args.json);
    }
    let shared = load(&here.join("scenarios.yaml"))?;
    let mut neighbours = Vec::new();
    let files = [
        ("scenarios.yaml", What::Shared),
        ("scenarios-other.yaml", What::Other),
        ("scenarios-drawn.yaml", What::Drawn),
        ("scenarios-held.yaml", What::Drawn),
    ];
    for (file, what) in files {
        let scenarios = load(&here.join(file))?;
        run(what, file.to_owned(), &scenarios);
        neighbours.extend(scenarios.into_iter().filter(|scenario| scenario.background.is_some()));
    }
    let (null, slow, fast) = (
        Variant { limit_null: true, ..Variant::default() },
        Variant { window_factor: 6.0, ..Variant::default() },
        Variant { window_factor: 1.0 / 6.0, ..Variant::default() },
    );
    for variant in [null, slow, fast] {
        run(variant.what(), format!("scenarios.yaml{}", variant.name()), &variant.of(&shared));
    }
    for honesty in [Honesty::True, Honesty::Full, Honesty::Zero, Honesty::Stale] {
        let variant = Variant { rate_headers: Some(honesty), ..Variant::default() };
        let scenarios = if honesty == Honesty::True { &neighbours } else { &shared };
        let name = if honesty == Honesty::True { "all with neighbours" } else { "scenarios.yaml" };
        run(variant.what(), format!("{name}{}", variant.name()), &variant.of(scenarios));
    }
    report::print(&sets, args.json)
}

/// What the client is told otherwise than the file says.
#[derive(Clone, Copy, PartialEq)]
struct Variant {
    limit_null: bool,
    window_factor: f64,
    rate_headers: Option<Honesty>,
}

impl Default for Variant {
    fn default() -> Self {
        Self { limit_null: false, window_factor: 1.0, rate_headers: None }
    }
}

impl Variant {
    fn what(self) -> What {
        match self.rate_headers {
            _ if self.limit_null => What::LimitNull,
            Some(Honesty::True) => What::Headers,
            Some(_) => What::Lies,
            None if (self.window_factor - 1.0).abs() > f64::EPSILON => What::WrongWindow,
            None => What::Other,
        }
    }

    fn name(self) -> String {
        let null = self.limit_null.then(|| ", limit: null".to_owned());
        let is_wrong = (self.window_factor - 1.0).abs() > f64::EPSILON;
        let window = is_wrong.then(|| format!(", documented window x {:.2}", self.window_factor));
        let headers = self.rate_headers.map(|honesty| format!(", rate headers: {honesty:?}"));
        [null, window, headers].into_iter().flatten().collect()
    }

    fn of(self, scenarios: &[Scenario]) -> Vec<Scenario> {
        let told = |scenario: &Scenario| {
            let mut scenario = scenario.clone();
            scenario.limit_null = self.limit_null;
            scenario.documented.window_s *= self.window_factor;
            scenario.rate_headers = self.rate_headers;
            scenario
        };
        scenarios.iter().map(told).collect()
    }
}

/// Every scenario is a unit of work; the order of the rows is that of the file.
fn score_all(args: &Args, what: What, scenarios: &[Scenario]) -> Vec<Row> {
    let next = AtomicUsize::new(0);
    let rows: Mutex<Vec<(usize, Row)>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(scenario) = scenarios.get(place) else { break };
                    let row = score(args, what, scenario);
                    rows.lock().unwrap_or_else(PoisonError::into_inner).push((place, row));
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by_key(|(place, _)| *place);
    rows.into_iter().map(|(_, row)| row).collect()
}

fn score(args: &Args, what: What, scenario: &Scenario) -> Row {
    let reference = scenario.oracle.unwrap_or_else(|| estimate(args, scenario));
    let until = seconds(8.0 * reference.makespan_s + 900.0);
    let runs = |who: Who| -> Vec<(f64, Outcomes)> {
        (0..args.draws)
            .map(|draw| World::new(scenario, who, seed(args.seed, draw)).run(until))
            .map(|outcomes| (score_of(scenario, reference, &outcomes), outcomes))
            .collect()
    };
    let who = match args.algorithm {
        Choice::Budget => Who::Budget,
        Choice::Adaptive => Who::Adaptive,
    };
    let rivals = if args.no_rivals || !what.is_file() { &[][..] } else { &report::RIVALS };
    let rivals = rivals.iter().map(|&(name, rival)| Baseline::of(name, &runs(rival))).collect();
    let blind = what.is_blind().then(|| report::mean(runs(Who::Blind).iter().map(|(score, _)| *score)));
    Row::new(scenario, reference, &runs(who), rivals, blind)
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
