//! What of a plan is not at rest, each with what it waits for, since when and until when. What goes out waits on the queue, which
//! tells of it.

use super::Hold;
use super::Plan;
use super::render::Listed;
use super::render::Pace;
use super::render::ProjectReport;
use super::render::Word;
use crate::resource::Key;
use crate::telemetry::line::cause;
use crate::telemetry::status::APPROVED;
use crate::telemetry::status::HoldStatus;
use crate::telemetry::status::Told;
use crate::telemetry::status::Wait;
use crate::telemetry::status::Waits;
use crate::telemetry::status::Why;
use crate::telemetry::status::rfc3339;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::time::SystemTime;

/// Adds what cannot be planned, or not yet. `since` is when the wait of a resource was first seen, `again` when what could not be
/// observed is looked at again.
pub fn unplanned(
    plan: &Plan,
    since: &dyn Fn(&Key) -> Option<SystemTime>,
    again: Option<SystemTime>,
    waits: &mut Waits,
) {
    let since = |key: &Key| since(key).map(rfc3339);
    for (key, why, what) in &plan.waits {
        waits.add(*why, key.kind, || Told { id: key.id(), what: what.clone(), since: since(key), until: None });
    }
    for refusal in &plan.refused {
        let key = &refusal.key;
        let what = &refusal.message;
        waits.add(Why::Parked, key.kind, || Told { id: key.id(), what: what.clone(), since: since(key), until: None });
    }
    for (kind, unobserved) in &plan.unobserved {
        let until = again.map(rfc3339);
        waits.add(Why::Unobserved, kind, || Told { what: unobserved.reason.clone(), until, ..Told::default() });
    }
}

/// Adds what of these changes is held.
pub fn add_held<'c>(holds: &[HoldStatus], changes: impl Iterator<Item = Listed<'c>>, waits: &mut Waits) {
    let holds: HashMap<&str, &HoldStatus> = holds.iter().map(|hold| (&*hold.reason, hold)).collect();
    for change in changes {
        let hold = change.held().and_then(|held| Some((Hold::word(held)?, holds.get(held)?)));
        let Some((word, hold)) = hold else { continue };
        waits.add(Why::Held(word), change.kind(), || {
            let change = change.report();
            Told {
                what: match &change.why {
                    Some(why) if hold.ends_with != APPROVED => why.clone(),
                    // Time says it.
                    None if change.until.is_some() => String::new(),
                    Some(_) | None => format!("ends with {}", hold.ends_with),
                },
                since: change.drift.as_ref().map(|drift| drift.since.clone()).or_else(|| hold.since.clone()),
                until: change.until.clone(),
                id: change.id.clone(),
            }
        });
    }
}

/// What waits, as a report tells it.
#[derive(Debug, Default)]
pub struct Rows {
    /// Each with what it waits for.
    pub rows: Vec<Wait>,
    /// How many wait for each reason, the ones included that are too many to be told.
    pub counts: BTreeMap<Word, u64>,
    /// What is held beside the changes: files that are put aside.
    pub holds: Vec<HoldStatus>,
}

impl Rows {
    /// What a daemon tells: the changes that wait, and what of `known` is none of them.
    pub fn of_daemon(changes: Waits, known: &[Wait], counts: &BTreeMap<&'static str, u64>) -> Self {
        let mut rows = changes.rows();
        // Since when something is refused the status knows better than the queue, which a restart empties.
        let before = |row: &Wait| {
            let is_it = |wait: &&Wait| (&wait.kind, &wait.id, wait.word()) == (&row.kind, &row.id, row.word());
            known.iter().find(is_it).and_then(|wait| wait.since.clone())
        };
        for row in
            rows.iter_mut().filter(|row| [Why::Parked, Why::Dependency].iter().any(|why| why.as_str() == row.word()))
        {
            row.since = before(row).or_else(|| row.since.take());
        }
        let changes: HashSet<(&str, &str)> = rows.iter().map(|wait| (&*wait.kind, &*wait.id)).collect();
        let others: Vec<Wait> =
            known.iter().filter(|wait| !changes.contains(&(&*wait.kind, &*wait.id))).cloned().collect();
        rows.extend(others);
        Self { rows, holds: Vec::new(), counts: counts.iter().map(|(why, count)| ((*why).into(), *count)).collect() }
    }
}

impl<'p> ProjectReport<'p> {
    /// What one look tells: its plan, what it holds of that, and what it could not plan.
    pub fn told(name: &str, plan: &'p Plan, pace: Pace) -> Self {
        let report = Self::new(name, plan, pace);
        let mut waits = Waits::of_plan();
        add_held(&report.holds, report.changes.iter(), &mut waits);
        unplanned(plan, &|_| None, None, &mut waits);
        let wait_counts = waits.counts().into_iter().map(|(why, count)| (why.into(), count)).collect();
        Self { wait_counts, waits: waits.rows(), ..report }
    }

    /// What each resource waits for that waits, but for what a held change says by itself: the other half of it goes out.
    pub fn wait_of(&self) -> HashMap<(&str, &str), &Wait> {
        let held = self.changes.iter().filter_map(|change| Some((change.kind(), change.id(), change.held()?)));
        let held: HashSet<(&str, Cow<'_, str>, &str)> = held.collect();
        let is_said = |wait: &Wait| held.contains(&(&*wait.kind, Cow::from(&*wait.id), wait.word()));
        self.waits.iter().rev().filter(|wait| !is_said(wait)).map(|wait| ((&*wait.kind, &*wait.id), wait)).collect()
    }

    /// What waits and is no change here, and what nothing else here says.
    pub fn other_waits<'r>(&'r self) -> impl Iterator<Item = &'r Wait> {
        let name_of = |wait: &'r Wait| (&*wait.kind, Cow::from(&*wait.id));
        let mut left: HashSet<(&str, Cow<'_, str>)> = self.waits.iter().map(name_of).collect();
        for refused in &self.refused {
            left.remove(&(&*refused.kind, Cow::from(&*refused.id)));
        }
        if !left.is_empty() {
            for change in self.changes.iter() {
                left.remove(&(change.kind(), change.id()));
            }
        }
        let is_said = |wait: &Wait| {
            let what = wait.why.split_once(": ").map_or("", |(_, what)| what);
            let name = if wait.id.is_empty() { wait.kind.clone() } else { format!("{}/{} ", wait.kind, wait.id) };
            // Several lists of one cause are one warning.
            let says = |warning: &str| {
                let is_list = wait.id.is_empty();
                if is_list { cause(warning).contains(cause(what).trim_end()) } else { warning.contains(what) }
            };
            !what.is_empty() && self.warnings.iter().any(|warning| says(warning) && warning.contains(&name))
        };
        self.waits.iter().filter(move |wait| left.contains(&name_of(wait)) && !is_said(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A problem that was known before was told beside the change that waits for it.
    #[test]
    fn of_each_resource_the_plan_says_what_it_waits_for_and_of_others_what_was_known() {
        let wait = |kind: &str, id: &str, why: &str| Wait {
            kind: kind.to_owned(),
            id: id.to_owned(),
            why: why.to_owned(),
            since: None,
            until: None,
        };
        let mut changes = Waits::of_plan();
        changes.add(Why::Parked, "roles", || Told {
            id: "r".to_owned(),
            what: "refused".to_owned(),
            ..Told::default()
        });
        let known =
            [wait("roles", "r", "parked: before"), wait("roles", "other", "parked"), wait("tenants", "r", "parked")];

        let rows = Rows::of_daemon(changes, &known, &BTreeMap::new()).rows;

        let told: Vec<_> = rows.iter().map(|wait| (&*wait.kind, &*wait.id, wait.why.contains("before"))).collect();
        assert_eq!(told, [("roles", "r", false), ("roles", "other", false), ("tenants", "r", false)]);
    }
}
