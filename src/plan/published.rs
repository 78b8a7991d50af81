//! The newest plan of a project as a daemon tells it: what is left of it, rendered change by change while it is written out.

use super::Change;
use super::Plan;
use super::ProjectName;
use super::render;
use super::render::ChangeReport;
use super::render::Forecast;
use super::render::HeldReport;
use super::render::Identity;
use super::render::Listed;
use super::render::Pace;
use super::render::RefusedReport;
use super::render::Word;
use super::waits;
use super::waits::Rows;
use crate::desired::Declared;
use crate::desired::Desired;
use crate::resource;
use crate::resource::Key;
use crate::telemetry::status::HoldStatus;
use crate::telemetry::status::Wait;
use crate::telemetry::status::Waits;
use serde::Serialize;
use serde::Serializer;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::sync::Arc;

/// A plan that is being carried out. Its changes are the plan's own: nothing of them is kept twice.
#[derive(Debug, Clone)]
pub struct Published {
    /// The project's name in the config.
    pub name: ProjectName,
    /// Without the tasks that are on the queue.
    pub plan: Arc<Plan>,
    /// Of the held changes; empty where nothing is held, or where it was used up.
    pub fingerprint: String,
    /// What is held as a whole, and was not approved since.
    pub held: Option<HeldReport>,
    /// The files that it is of.
    pub desired: Arc<Desired>,
}

impl Published {
    /// Nothing of it is approved yet.
    pub fn new(name: &ProjectName, plan: Arc<Plan>, desired: Arc<Desired>) -> Self {
        let (fingerprint, held) = (plan.fingerprint.clone(), HeldReport::of(&plan));
        Self { name: name.clone(), plan, fingerprint, held, desired }
    }

    /// Is all of it approved that can be?
    pub fn is_approved(&self) -> bool {
        self.fingerprint.is_empty() && !self.plan.fingerprint.is_empty()
    }

    /// What it waits for.
    pub fn holds(&self) -> Vec<HoldStatus> {
        let mut holds = render::holds(&self.plan);
        if self.is_approved() {
            holds.iter_mut().for_each(HoldStatus::approve);
        }
        holds
    }

    /// What the files say of a resource that is called so.
    pub fn declared(&self, kind: &str, id: &str) -> Option<&Declared> {
        let kind = resource::kind(kind)?.name();
        let find = |key: &Key| self.desired.resources.get(key).map(|declared| &**declared);
        // Where the tenant ends, nobody can tell from the outside.
        let of_tenants = id.match_indices('/').map(|(at, slash)| {
            let (tenant, name) = id.split_at(at);
            Key::in_tenant(kind, tenant, name.strip_prefix(slash).unwrap_or(name))
        });
        find(&Key::new(kind, id)).or_else(|| of_tenants.into_iter().find_map(|key| find(&key)))
    }

    /// Did the last look show it as it is declared, and is nothing known that could have changed that since?
    pub fn is_in_sync(&self, key: &Key, unfinished: &HashSet<Key>) -> bool {
        let plan = &*self.plan;
        let was_seen =
            plan.present.contains(key) && plan.observed.contains(key.kind) && !plan.shrunk.contains(key.kind);
        let is_pending = unfinished.contains(key) || plan.unlisted.contains(key) || plan.unread.contains_key(key);
        was_seen
            && !is_pending
            && !plan.changes.iter().any(|change| change.key == *key)
            && !plan.refused.iter().any(|refusal| refusal.key == *key)
            && !plan.waits.iter().any(|(waiting, ..)| waiting == key)
    }

    /// Is a change still to be made? The others are done.
    pub fn is_left(change: &Change, unfinished: &HashSet<Key>) -> bool {
        change.held.is_some() || unfinished.contains(&change.key)
    }

    /// Adds what is held.
    pub fn add_held(&self, waits: &mut Waits) {
        waits::add_held(&self.holds(), self.plan.changes.iter().map(Listed::Planned), waits);
    }

    /// What is held and what is `unfinished` of it, as a [`render::ProjectReport`] says it.
    pub fn left<'p>(&'p self, unfinished: &'p HashSet<Key>, waits: Rows, pace: Pace) -> impl Serialize + use<'p> {
        let left = move || self.plan.changes.iter().filter(move |change| Self::is_left(change, unfinished));
        let (mut calls, mut more) = (BTreeSet::new(), 0);
        for sent in left().filter(|change| change.is_sent()).map(Change::calls) {
            calls.extend(sent.numbers);
            more += sent.more;
        }
        Left {
            name: &self.name,
            fingerprint: &self.fingerprint,
            held: self.held.as_ref(),
            holds: self.holds().into_iter().chain(waits.holds).collect(),
            warnings: Each(|| render::warnings(&self.plan)),
            waits: waits.rows,
            wait_counts: waits.counts,
            changes: Each(move || left().map(ChangeReport::new)),
            refused: Each(|| self.plan.refused.iter().map(RefusedReport::new)),
            undeclared: Each(|| self.plan.undeclared.iter().map(Identity::new)),
            forecast: Forecast::new(calls.len() + more, self.plan.reads, pace),
            is_incomplete: self.plan.is_incomplete(),
        }
    }
}

/// The answer with the plans of all projects.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plans<P> {
    format_version: u32,
    projects: Vec<P>,
}

impl<P> Plans<P> {
    /// In the order of the config.
    pub fn new(projects: Vec<P>) -> Self {
        Self { format_version: 1, projects }
    }
}

/// The fields of a [`render::ProjectReport`].
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Left<'p, W: Serialize, C: Serialize, R: Serialize, U: Serialize> {
    name: &'p str,
    fingerprint: &'p str,
    held: Option<&'p HeldReport>,
    holds: Vec<HoldStatus>,
    warnings: W,
    waits: Vec<Wait>,
    wait_counts: BTreeMap<Word, u64>,
    changes: C,
    refused: R,
    undeclared: U,
    forecast: Forecast,
    is_incomplete: bool,
}

/// A list of which each item is made when it is written.
struct Each<F>(F);

impl<F, I> Serialize for Each<F>
where
    F: Fn() -> I,
    I: Iterator<Item: Serialize>,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::FieldChange;
    use crate::plan::Hold;
    use crate::plan::Refusal;
    use crate::plan::order;
    use crate::plan::render::ProjectReport;
    use crate::resource::Document;
    use serde_json::json;
    use thin_vec::thin_vec;

    fn change(name: &str, held: Option<Hold>, batch: u32) -> Change {
        let key = Key::new("roles", name);
        let mut task = order::deletion(&key, &Document::new(), false);
        task.batch = batch;
        let field = FieldChange { path: "description".into(), from: json!("a"), to: json!("b") };
        Change { held, tasks: thin_vec![task], ..Change::update_of(key, vec![field]) }
    }

    fn plan() -> Plan {
        let refusal = Refusal { key: Key::new("roles", "no"), message: "is refused".to_owned(), place: None };
        Plan {
            changes: vec![change("a", None, 1), change("b", None, 2), change("c", Some(Hold::Policy), 3)],
            refused: vec![refusal],
            undeclared: vec![Key::new("roles", "u")],
            warnings: vec!["mind the gap".to_owned()],
            reads: 5,
            ..Plan::default()
        }
    }

    fn left(published: &Published, unfinished: &[&str]) -> serde_json::Value {
        let unfinished = unfinished.iter().map(|name| Key::new("roles", name)).collect();
        serde_json::to_value(published.left(&unfinished, Rows::default(), Pace::Free)).unwrap()
    }

    #[test]
    fn what_is_written_out_is_the_report_of_the_plan_though_its_tasks_are_on_the_queue() {
        let report = serde_json::to_value(ProjectReport::new("x", &plan(), Pace::Free)).unwrap();
        let mut plan = plan();

        let tasks = plan.take_tasks(&Arc::default());

        assert_eq!(tasks.len(), 2);
        let published = Published::new(&"x".into(), Arc::new(plan), Arc::default());
        assert_eq!(left(&published, &["a", "b"]), report);
        let of_b = left(&published, &["b"]);
        assert_eq!((&of_b["changes"][0]["id"], &of_b["changes"][1]["id"]), (&json!("b"), &json!("c")));
        assert_eq!((of_b["changes"].as_array().unwrap().len(), &of_b["forecast"]["requests"]), (2, &json!(1)));
    }
}
