//! The tables, or the same as JSON.

use std::io::Write;

use serde::Serialize;

use crate::scenario::Load;
use crate::scenario::Oracle;
use crate::scenario::Scenario;
use crate::world::Outcomes;
use crate::world::START_UP;
use crate::world::Who;
use crate::world::count;

/// No scenario counts for less in a geometric mean.
const FLOOR: f64 = 0.001;

/// What the limiter is compared with.
pub const RIVALS: [(&str, Who); 4] = [
    ("adaptive, original retry", Who::Adaptive),
    ("the same without the gate", Who::Original),
    ("accept share, shared pause", Who::Share),
    ("AIMD bucket, shared pause", Who::Aimd),
];

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
    /// Of the neighbours' requests, those that we were in the way of, most of them for a while.
    pub others_turned_away: f64,
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
    pub rivals: Vec<Baseline>,
    /// What a client reaches that knows nothing until the first refusal, and everything from then on.
    pub blind: Option<f64>,
    #[serde(skip)]
    pub of: Family,
}

#[derive(Serialize, Clone)]
pub struct Baseline {
    pub name: &'static str,
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

/// What a set is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum What {
    Shared,
    Other,
    /// Not shaped on.
    Drawn,
    LimitNull,
    WrongWindow,
    Headers,
    Lies,
}

impl What {
    /// Whether it is a file as it stands.
    pub fn is_file(self) -> bool {
        matches!(self, Self::Shared | Self::Other | Self::Drawn)
    }

    /// Whether the client has to find out what it should have been told.
    pub fn is_blind(self) -> bool {
        matches!(self, Self::LimitNull | Self::WrongWindow)
    }
}

pub struct Set {
    pub name: String,
    pub what: What,
    pub rows: Vec<Row>,
}

impl Row {
    pub fn new(
        scenario: &Scenario,
        oracle: Oracle,
        runs: &[(f64, Outcomes)],
        rivals: Vec<Baseline>,
        blind: Option<f64>,
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
            others_turned_away: mean(&|run| run.others_turned_away),
            makespan_s: mean(&|run| run.makespan),
            p95_s: mean(&|run| run.p95),
            first_1000_s: some(&|run| run.first_1000),
            settled_s: some(&|run| run.settled),
            unsettled: !scenario.steps.is_empty() && runs.iter().any(|(_, run)| run.settled.is_none()),
            steady_throttled_per_hour: mean(&|run| 3600.0 * count(run.steady_throttled) / steady(run)),
            steady_lockout_share: mean(&|run| run.steady_locked / steady(run)),
            sent_into_closed_gate: mean(&|run| count(run.into_closed_gate)),
            oracle,
            rivals,
            blind,
            of: Family::of(scenario, oracle),
        }
    }
}

impl Baseline {
    pub fn of(name: &'static str, runs: &[(f64, Outcomes)]) -> Self {
        Self {
            name,
            score: mean(runs.iter().map(|(score, _)| *score)),
            throttled: mean(runs.iter().map(|(_, run)| count(run.throttled))),
            lost: mean(runs.iter().map(|(_, run)| count(run.lost + run.unfinished))),
        }
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

pub fn mean(values: impl Iterator<Item = f64>) -> f64 {
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

fn goals(sets: &[Set]) -> Vec<Goal> {
    let of = |what: What| sets.iter().filter(move |set| set.what == what).flat_map(|set| &set.rows);
    let files = || sets.iter().filter(|set| set.what.is_file()).flat_map(|set| &set.rows);
    let some = |values: Vec<f64>, of: fn(&[f64]) -> f64| (!values.is_empty()).then(|| of(&values));
    let geometric: fn(&[f64]) -> f64 = |values| geo(values.iter().copied());
    let average: fn(&[f64]) -> f64 = |values| mean(values.iter().copied());
    let lowest: fn(&[f64]) -> f64 = |values| values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest: fn(&[f64]) -> f64 = |values| values.iter().copied().fold(0.0, f64::max);
    let scores = |what: What| of(what).map(|row| row.score).collect::<Vec<_>>();
    let drawn = |is: fn(&Row) -> bool| of(What::Drawn).filter(|row| is(row)).map(|row| row.score).collect::<Vec<_>>();
    let family = |is: fn(&Row) -> bool| files().filter(|row| is(row)).map(|row| row.score).collect::<Vec<_>>();
    let share = |what: What| some(of(what).filter_map(|row| Some(row.score / row.blind?)).collect(), geometric);
    let settled = |is: fn(&Row) -> bool| -> Vec<f64> {
        let time = |row: &Row| row.settled_s.filter(|_| !row.unsettled).unwrap_or(f64::INFINITY);
        of(What::Shared).chain(of(What::Other)).filter(|row| is(row)).map(time).collect()
    };
    let steady = |of: fn(&Row) -> f64| files().filter(|row| row.of.steady).map(of).collect::<Vec<_>>();
    let closed = sets.iter().flat_map(|set| &set.rows).map(|row| row.sent_into_closed_gate).collect();
    let lost = sets.iter().flat_map(|set| &set.rows).map(|row| row.lost).collect();
    // Of drawn ones the phase of the server's windows decides.
    let restarts = of(What::Shared).filter(|row| row.of.restart).map(|row| row.score).collect();
    let throttled = of(What::Shared).map(|row| row.throttled).collect();
    let up = |name, reached, required, stretch| Goal { name, reached, required, stretch, rising: true };
    let down = |name, reached, required, stretch| Goal { name, reached, required, stretch, rising: false };
    vec![
        up("shared scenarios (geometric mean)", some(scores(What::Shared), geometric), 0.90, Some(0.905)),
        up("drawn scenarios (geometric mean)", some(scores(What::Drawn), geometric), 0.88, Some(0.90)),
        up("drawn, worst without neighbours", some(drawn(|row| !row.of.background), lowest), 0.60, Some(0.70)),
        up("drawn, worst with neighbours", some(drawn(|row| row.of.background), lowest), 0.38, Some(0.50)),
        up("limit: null, share of a blind yardstick", share(What::LimitNull), 0.90, Some(0.95)),
        up("window wrong by 6, share of a blind yardstick", share(What::WrongWindow), 0.90, Some(0.95)),
        up("neighbours, with rate headers (geometric mean)", some(scores(What::Headers), geometric), 0.85, Some(0.95)),
        up(
            "documentation matches, no neighbours (geometric mean)",
            some(family(|row| row.of.as_documented), geometric),
            0.94,
            Some(0.95),
        ),
        up("waves of <= 95 % of a budget (p95)", some(family(|row| row.of.small_waves), lowest), 0.99, None),
        up("restart in mid-window, shared", some(restarts, lowest), 0.98, None),
        down("429s per scenario and draw, shared", some(throttled, average), 9.0, Some(6.0)),
        down(
            "429s per hour, steady, lockout (highest)",
            some(steady(|row| row.steady_throttled_per_hour), highest),
            3.0,
            Some(2.0),
        ),
        down(
            "time locked out, steady (highest)",
            some(steady(|row| row.steady_lockout_share), highest),
            0.03,
            Some(0.02),
        ),
        down(
            "settling after a step up by 3 or more, lockout (s)",
            some(settled(|row| row.of.upgrade), highest),
            180.0,
            Some(120.0),
        ),
        down(
            "settling after a step down by 3 or more, lockout (s)",
            some(settled(|row| row.of.downgrade), highest),
            90.0,
            Some(70.0),
        ),
        down("tasks lost or unfinished", some(lost, highest), 0.0, Some(0.0)),
        down("requests sent while the gate is closed", some(closed, highest), 0.0, Some(0.0)),
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

fn table(out: &mut impl Write, set: &Set) -> std::io::Result<()> {
    writeln!(out, "{}", set.name)?;
    writeln!(
        out,
        "{:<34} {:>6} {:>6} {:>6} {:>8} {:>8} {:>7} {:>7} {:>7} {:>5} {:>7} {:>7} {:>7} {:>8} | rivals",
        "scenario",
        "score",
        "lowest",
        "blind",
        "seconds",
        "ideal",
        "429s",
        "/1000",
        "/hour",
        "lost",
        "locked",
        "others",
        "settle",
        "1st 1000"
    )?;
    for row in &set.rows {
        write!(
            out,
            "{:<34} {:>6.3} {:>6.3} {:>6} {:>8.1} {:>8.1} {:>7.1} {:>7.1} {:>7.1} {:>5.1} {:>6.1}% {:>6.1}% {:>7} {:>8} |",
            row.name,
            row.score,
            row.lowest,
            number(row.blind),
            row.makespan_s,
            row.oracle.makespan_s,
            row.throttled,
            row.throttled_per_1000,
            row.throttled_per_hour,
            row.lost,
            100.0 * row.lockout_share,
            100.0 * row.others_turned_away,
            if row.unsettled { "never".to_owned() } else { number(row.settled_s) },
            number(row.first_1000_s)
        )?;
        for rival in &row.rivals {
            write!(out, " {:.3}", rival.score)?;
        }
        writeln!(out)?;
    }
    let sum = |name: &str, scores: Vec<f64>, throttled: f64, lost: f64| {
        let worst = scores.iter().copied().fold(f64::INFINITY, f64::min);
        let mean = geo(scores.into_iter());
        format!("{name:<34} geometric mean {mean:.3}, worst {worst:.3}, 429s {throttled:.1}, lost {lost:.1}")
    };
    let rows = &set.rows;
    let average = |of: &dyn Fn(&Row) -> f64| mean(rows.iter().map(of));
    let ours = sum("this", rows.iter().map(|row| row.score).collect(), average(&|r| r.throttled), average(&|r| r.lost));
    writeln!(out, "{ours}")?;
    if set.what.is_blind() {
        let blind: Vec<f64> = rows.iter().filter_map(|row| row.blind).collect();
        writeln!(out, "{:<34} geometric mean {:.3}", "blind yardstick", geo(blind.into_iter()))?;
    }
    for (i, rival) in rows.first().map_or(&[][..], |row| &row.rivals).iter().enumerate() {
        let scores = rows.iter().map(|row| row.rivals[i].score).collect();
        let (throttled, lost) = (average(&|row| row.rivals[i].throttled), average(&|row| row.rivals[i].lost));
        writeln!(out, "{}", sum(rival.name, scores, throttled, lost))?;
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
