//! The tables, or the same as JSON.

use std::io::Write;

use serde::Serialize;

use crate::scenario::Load;
use crate::scenario::Oracle;
use crate::scenario::Scenario;
use crate::world::Outcomes;
use crate::world::START_UP;
use crate::world::count;

/// No scenario counts for less in a geometric mean.
const FLOOR: f64 = 0.001;

/// What came of one scenario, as means over its draws.
#[derive(Serialize, Clone)]
pub struct Row {
    pub name: String,
    pub score: f64,
    pub lowest: f64,
    pub throttled: f64,
    pub throttled_per_1000: f64,
    pub throttled_per_hour: f64,
    pub lost: f64,
    pub lockout_share: f64,
    pub others_served: f64,
    pub makespan_s: f64,
    pub p95_s: f64,
    pub first_1000_s: Option<f64>,
    pub settled_s: Option<f64>,
    /// A draw that never settled.
    pub unsettled: bool,
    pub sent_into_closed_gate: f64,
    /// From ten minutes on.
    pub steady_throttled_per_hour: f64,
    pub steady_lockout_share: f64,
    pub oracle: Oracle,
    pub adaptive: Option<Baseline>,
    pub original: Option<Baseline>,
    #[serde(skip)]
    pub of: Family,
}

#[derive(Serialize, Clone)]
pub struct Baseline {
    pub score: f64,
    pub throttled: f64,
    pub lost: f64,
}

/// Which goals a scenario counts for.
#[allow(clippy::struct_excessive_bools, reason = "a scenario may count for any of them")]
#[derive(Clone, Default)]
pub struct Family {
    background: bool,
    as_documented: bool,
    small_waves: bool,
    restart: bool,
    steady: bool,
    upgrade: bool,
    downgrade: bool,
}

pub struct Set {
    pub name: String,
    pub rows: Vec<Row>,
}

impl Row {
    pub fn new(
        scenario: &Scenario,
        oracle: Oracle,
        runs: &[(f64, Outcomes)],
        adaptive: &[(f64, Outcomes)],
        original: &[(f64, Outcomes)],
    ) -> Self {
        let mean = |of: &dyn Fn(&Outcomes) -> f64| mean(runs.iter().map(|(_, run)| of(run)));
        let some = |of: &dyn Fn(&Outcomes) -> Option<f64>| {
            let known: Vec<f64> = runs.iter().filter_map(|(_, run)| of(run)).collect();
            (!known.is_empty()).then(|| crate::report::mean(known.iter().copied()))
        };
        Self {
            name: scenario.name.clone(),
            score: crate::report::mean(runs.iter().map(|(score, _)| *score)),
            lowest: runs.iter().map(|(score, _)| *score).fold(f64::INFINITY, f64::min),
            throttled: mean(&|run| count(run.throttled)),
            throttled_per_1000: mean(&|run| 1000.0 * count(run.throttled) / count(run.succeeded.max(1))),
            throttled_per_hour: mean(&|run| 3600.0 * count(run.throttled) / run.duration.max(1.0)),
            lost: mean(&|run| count(run.lost + run.unfinished)),
            lockout_share: mean(&|run| run.locked / run.duration.max(1e-9)),
            others_served: mean(&|run| run.others),
            makespan_s: mean(&|run| run.makespan),
            p95_s: mean(&|run| run.p95),
            first_1000_s: some(&|run| run.first_1000),
            settled_s: some(&|run| run.settled),
            unsettled: !scenario.steps.is_empty() && runs.iter().any(|(_, run)| run.settled.is_none()),
            steady_throttled_per_hour: mean(&|run| 3600.0 * count(run.steady_throttled) / steady(run)),
            steady_lockout_share: mean(&|run| run.steady_locked / steady(run)),
            sent_into_closed_gate: mean(&|run| count(run.into_closed_gate)),
            oracle,
            adaptive: Baseline::of(adaptive),
            original: Baseline::of(original),
            of: Family::of(scenario, oracle),
        }
    }
}

impl Baseline {
    fn of(runs: &[(f64, Outcomes)]) -> Option<Self> {
        (!runs.is_empty()).then(|| Self {
            score: mean(runs.iter().map(|(score, _)| *score)),
            throttled: mean(runs.iter().map(|(_, run)| count(run.throttled))),
            lost: mean(runs.iter().map(|(_, run)| count(run.lost + run.unfinished))),
        })
    }
}

impl Family {
    fn of(scenario: &Scenario, oracle: Oracle) -> Self {
        let before = |step: usize| step.checked_sub(1).map_or(scenario.server.n, |i| scenario.steps[i].1);
        let last = scenario.steps.len().checked_sub(1).map(|step| scenario.steps[step].1 / before(step));
        let lockout = scenario.server.lockout_s > 0.0;
        Self {
            background: scenario.background.is_some(),
            as_documented: scenario.is_as_documented(),
            small_waves: matches!(scenario.load, Load::Waves { size, .. } if count(size) <= 0.95 * scenario.server.n)
                && scenario.background.is_none(),
            restart: scenario.warm_used > 0,
            // An hour at the limit or longer.
            steady: lockout
                && scenario.steps.is_empty()
                && matches!(scenario.load, Load::Batch { .. })
                && oracle.makespan_s >= 3600.0,
            upgrade: lockout && last.is_some_and(|ratio| ratio >= 3.0),
            downgrade: lockout && last.is_some_and(|ratio| ratio <= 1.0 / 3.0),
        }
    }
}

fn steady(run: &Outcomes) -> f64 {
    (run.duration - START_UP.as_secs_f64()).max(1.0)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0));
    if n == 0.0 { 0.0 } else { sum / n }
}

fn geo(values: impl Iterator<Item = f64>) -> f64 {
    mean(values.map(|value| value.max(FLOOR).ln())).exp()
}

/// What must be reached, what was, and what would be at the level of an informed reference.
#[derive(Serialize)]
struct Goal {
    name: &'static str,
    reached: Option<f64>,
    required: f64,
    stretch: Option<f64>,
    /// Whether more is better.
    rising: bool,
}

impl Goal {
    fn verdict(&self) -> &'static str {
        let meets = |bound: f64, reached: f64| if self.rising { reached >= bound } else { reached <= bound };
        match (self.reached, self.stretch) {
            (None, _) => "-",
            (Some(reached), Some(stretch)) if meets(stretch, reached) => "stretch",
            (Some(reached), _) if meets(self.required, reached) => "required",
            (Some(_), _) => "MISSED",
        }
    }
}

/// The first set is the shared one, the others guard against fitting to it.
fn goals(sets: &[Set]) -> Vec<Goal> {
    let shared = || sets.first().into_iter().flat_map(|set| &set.rows);
    let all = || sets.iter().flat_map(|set| &set.rows);
    let some = |values: Vec<f64>, of: fn(&[f64]) -> f64| (!values.is_empty()).then(|| of(&values));
    let geometric: fn(&[f64]) -> f64 = |values| geo(values.iter().copied());
    let lowest: fn(&[f64]) -> f64 = |values| values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest: fn(&[f64]) -> f64 = |values| values.iter().copied().fold(0.0, f64::max);
    let scores = |of: fn(&Row) -> bool| all().filter(|row| of(row)).map(|row| row.score).collect::<Vec<_>>();
    let settled = |of: fn(&Row) -> bool| -> Vec<f64> {
        let time = |row: &Row| row.settled_s.filter(|_| !row.unsettled).unwrap_or(f64::INFINITY);
        all().filter(|row| of(row)).map(time).collect()
    };
    let steady = |of: fn(&Row) -> f64| all().filter(|row| row.of.steady).map(of).collect::<Vec<_>>();
    let up = |name, reached, required, stretch| Goal { name, reached, required, stretch, rising: true };
    let down = |name, reached, required, stretch| Goal { name, reached, required, stretch, rising: false };
    let other = sets.iter().skip(1).flat_map(|set| &set.rows).map(|row| row.score).collect();
    vec![
        up("geo-mean score, shared set", some(shared().map(|r| r.score).collect(), geometric), 0.86, Some(0.90)),
        up("geo-mean score, other scenarios of the same families", some(other, geometric), 0.80, Some(0.88)),
        up("worst scenario, without background", some(scores(|r| !r.of.background), lowest), 0.62, Some(0.70)),
        up("worst scenario, background", some(scores(|r| r.of.background), lowest), 0.40, Some(0.50)),
        up(
            "documentation matches, no neighbours (geo)",
            some(scores(|r| r.of.as_documented), geometric),
            0.88,
            Some(0.93),
        ),
        up("waves of <= 95 % of a budget: p95 score", some(scores(|r| r.of.small_waves), lowest), 0.99, None),
        up("restart mid-window", some(scores(|r| r.of.restart), lowest), 0.98, None),
        down("tasks lost or unfinished", some(all().map(|r| r.lost).collect(), highest), 0.0, Some(0.0)),
        down(
            "429s per scenario and draw, mean over the shared set",
            some(shared().map(|r| r.throttled).collect(), |v| mean(v.iter().copied())),
            13.0,
            Some(7.0),
        ),
        down(
            "429s per hour, steady, lockout servers (highest)",
            some(steady(|r| r.steady_throttled_per_hour), highest),
            6.0,
            Some(2.0),
        ),
        down(
            "lockout share of time, steady (highest)",
            some(steady(|r| r.steady_lockout_share), highest),
            0.08,
            Some(0.02),
        ),
        down(
            "requests sent while the gate is closed",
            some(all().map(|r| r.sent_into_closed_gate).collect(), highest),
            0.0,
            Some(0.0),
        ),
        down(
            "settling after a step up by 3 or more, lockout (s, highest)",
            some(settled(|r| r.of.upgrade), highest),
            360.0,
            Some(180.0),
        ),
        down(
            "settling after a step down by 3 or more, lockout (s, highest)",
            some(settled(|r| r.of.downgrade), highest),
            120.0,
            Some(90.0),
        ),
    ]
}

pub fn print(sets: &[Set], json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let goals = goals(sets);
    if json {
        let summaries: Vec<_> = sets
            .iter()
            .map(|set| {
                serde_json::json!({
                    "file": set.name,
                    "geoMean": geo(set.rows.iter().map(|row| row.score)),
                    "worst": set.rows.iter().map(|row| row.score).fold(f64::INFINITY, f64::min),
                    "scenarios": set.rows,
                })
            })
            .collect();
        let document = serde_json::json!({ "sets": summaries, "goals": goals });
        writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?;
        return Ok(());
    }
    for set in sets {
        table(&mut out, set)?;
    }
    writeln!(out, "{:<62} {:>9} {:>9} {:>9}", "goal", "reached", "required", "stretch")?;
    for goal in &goals {
        writeln!(
            out,
            "{:<62} {:>9} {:>9} {:>9}  {}",
            goal.name,
            number(goal.reached),
            number(Some(goal.required)),
            number(goal.stretch),
            goal.verdict()
        )?;
    }
    Ok(())
}

/// A score of a row.
type Column = fn(&Row) -> Option<f64>;

fn table(out: &mut impl Write, set: &Set) -> std::io::Result<()> {
    writeln!(out, "{}", set.name)?;
    writeln!(
        out,
        "{:<34} {:>6} {:>6} {:>8} {:>8} {:>7} {:>7} {:>7} {:>5} {:>7} {:>7} {:>8} | {:>14} {:>6} {:>5} | {:>14}",
        "scenario",
        "score",
        "lowest",
        "seconds",
        "ideal",
        "429s",
        "/1000",
        "/hour",
        "lost",
        "locked",
        "settle",
        "1st 1000",
        "with adaptive",
        "429s",
        "lost",
        "original"
    )?;
    for row in &set.rows {
        write!(
            out,
            "{:<34} {:>6.3} {:>6.3} {:>8.1} {:>8.1} {:>7.1} {:>7.1} {:>7.1} {:>5.1} {:>6.1}% {:>7} {:>8}",
            row.name,
            row.score,
            row.lowest,
            row.makespan_s,
            row.oracle.makespan_s,
            row.throttled,
            row.throttled_per_1000,
            row.throttled_per_hour,
            row.lost,
            100.0 * row.lockout_share,
            if row.unsettled { "never".to_owned() } else { number(row.settled_s) },
            number(row.first_1000_s)
        )?;
        if let (Some(adaptive), Some(original)) = (&row.adaptive, &row.original) {
            write!(
                out,
                " | {:>14.3} {:>6.0} {:>5.0} | {:>14.3}",
                adaptive.score, adaptive.throttled, adaptive.lost, original.score
            )?;
        }
        writeln!(out)?;
    }
    let score = |of: Column| -> Vec<f64> { set.rows.iter().filter_map(of).collect() };
    let columns: [(&str, Column); 3] = [
        ("this", |row| Some(row.score)),
        ("adaptive with the original retry", |row| row.adaptive.as_ref().map(|it| it.score)),
        ("the same without the shared gate", |row| row.original.as_ref().map(|it| it.score)),
    ];
    for (name, of) in columns {
        let scores = score(of);
        if !scores.is_empty() {
            let worst = scores.iter().copied().fold(f64::INFINITY, f64::min);
            writeln!(out, "{name:<34} geometric mean {:.3}, worst {worst:.3}", geo(scores.iter().copied()))?;
        }
    }
    writeln!(out)
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value.is_infinite() => "never".to_owned(),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.3}"),
    }
}
