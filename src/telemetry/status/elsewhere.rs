//! Projects that another replica writes are shown as that one shows them.

use super::Board;
use super::PUT_ASIDE;
use super::Problem;
use super::ProjectStatus;
use super::QueueStatus;
use super::Status;
use super::rfc3339;
use crate::telemetry::clock;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use std::time::SystemTime;
use tokio::time::Instant;

/// Lists of a project that are cut for an event.
const LISTS: [&str; 4] = ["problems", "waits", "suspensions", "contested"];

/// What the holder of a project says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Elsewhere {
    /// Who, by name.
    by: String,
    /// When it was true, by the clock of what is shown.
    at: SystemTime,
    /// The same moment, for its age.
    heard: Instant,
    age: Duration,
    said: Said,
}

/// The same as it travels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// As of `/api/v1/status`, its lists cut.
    pub project: Map<String, Value>,
    /// Of this project alone.
    pub queue: QueueStatus,
}

impl Elsewhere {
    /// Said by that replica, and true so long ago.
    pub fn new(by: &str, age: Duration, said: Said) -> Self {
        let at = clock::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        Self { by: by.to_owned(), at, heard: Instant::now(), age, said }
    }

    /// The same, true so long ago.
    #[must_use]
    pub fn again(&self, by: &str, age: Duration) -> Self {
        Self::new(by, age, self.said.clone())
    }

    /// In the place of what this process knows of the project; its name here, and who holds it, stay.
    fn stand_in(&self, project: &mut Value, most: usize, has_age: bool) {
        let (name, mut lease, checkouts) =
            (project["name"].take(), project["lease"].take(), project["checkouts"].take());
        let is_put_aside = |hold: &Value| hold["reason"] == PUT_ASIDE;
        let put_aside = project["holds"].as_array().into_iter().flatten().filter(|hold| is_put_aside(hold)).cloned();
        let put_aside: Vec<Value> = put_aside.collect();
        lease["statusOf"] = self.by.as_str().into();
        lease["statusAt"] = rfc3339(self.at).into();
        if has_age {
            lease["statusAgeSeconds"] = (self.age + self.heard.elapsed()).as_secs().into();
        }
        let mut shown = self.said.project.clone();
        let lists =
            LISTS.iter().filter_map(|list| shown.get_mut(*list)?.as_array_mut().map(|list| list.truncate(most)));
        lists.for_each(drop);
        if let Some(errors) = shown.get_mut("desired").and_then(|desired| desired["errors"].as_array_mut()) {
            errors.truncate(most);
        }
        if let Some(holds) = shown.get_mut("holds").and_then(Value::as_array_mut) {
            holds.retain(|hold| !is_put_aside(hold));
            holds.extend(put_aside);
        }
        shown.insert("checkouts".to_owned(), checkouts);
        shown.insert("name".to_owned(), name);
        shown.insert("lease".to_owned(), lease);
        *project = Value::Object(shown);
    }
}

/// By project.
pub(super) type Others = BTreeMap<String, Elsewhere>;

impl Board {
    /// Another replica says this of a project; `None`: this process knows itself.
    pub fn elsewhere(&self, project: &str, said: Option<Elsewhere>) {
        let is_new = self.others.send_if_modified(|others| match said {
            Some(said) => {
                others.insert(project.to_owned(), said);
                true
            }
            None => others.remove(project).is_some(),
        });
        if is_new {
            self.status.send_modify(|_| {});
        }
    }

    /// What another replica said of it last.
    pub fn said_of(&self, project: &str) -> Option<Elsewhere> {
        self.others.borrow().get(project).cloned()
    }

    /// `/api/v1/status`, as JSON.
    pub fn status_json(&self) -> String {
        let status = Status { components: self.health().components, ..self.status() };
        self.with_others(&status, usize::MAX, true)
    }

    /// What an event says, as JSON. Ages are left out: by themselves they are no news.
    pub fn snapshot_json(&self) -> String {
        self.with_others(&self.snapshot(), super::window::SHOWN, false)
    }

    fn with_others(&self, known: &impl Serialize, most: usize, has_age: bool) -> String {
        let others = self.others.borrow();
        if others.is_empty() {
            return serde_json::to_string(known).unwrap_or_default();
        }
        let Ok(mut all) = serde_json::to_value(known) else { return String::new() };
        let mut queues = Vec::new();
        for project in all["projects"].as_array_mut().into_iter().flatten() {
            let other = project["name"].as_str().and_then(|name| others.get(name));
            if let Some(other) = other.filter(|_| project["lease"]["isMine"] == false) {
                other.stand_in(project, most, has_age);
                queues.push(other.said.queue);
            }
        }
        let mine: QueueStatus = serde_json::from_value(all["queue"].take()).unwrap_or_default();
        let queue = queues.into_iter().fold(mine, QueueStatus::plus);
        all["queue"] = serde_json::to_value(queue).unwrap_or_default();
        all.to_string()
    }

    /// Problems of a project that another replica writes.
    pub(super) fn problems_elsewhere(&self, project: &ProjectStatus) -> Option<Vec<Problem>> {
        let others = self.others.borrow();
        let other = others.get(&project.name).filter(|_| project.lease.as_ref().is_some_and(|lease| !lease.is_mine));
        let problems = other?.said.project.get("problems")?.clone();
        serde_json::from_value(problems).ok()
    }
}

impl QueueStatus {
    /// Both together.
    fn plus(self, other: Self) -> Self {
        Self {
            ready: self.ready + other.ready,
            delayed: self.delayed + other.delayed,
            in_flight: self.in_flight + other.in_flight,
            blocked: self.blocked + other.blocked,
            parked: self.parked + other.parked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::status::LeaseStatus;
    use crate::telemetry::status::WhichProblems;
    use serde_json::json;

    fn lease(is_mine: bool) -> LeaseStatus {
        LeaseStatus { holder: Some("b/2".to_owned()), is_mine, ..LeaseStatus::default() }
    }

    fn said(problems: usize) -> Said {
        let problem = |n: usize| {
            json!({ "kind": "roles", "id": format!("r{n}"), "state": "parked", "message": "m", "attempts": 1,
                    "nextAttemptAt": null, "file": null, "line": null })
        };
        let problems: Vec<Value> = (0..problems).map(problem).collect();
        let project = json!({ "name": "one there", "converged": true, "problems": problems,
            "lease": { "isMine": true }, "desired": { "resources": 7, "errors": [] } });
        Said {
            project: project.as_object().unwrap().clone(),
            queue: QueueStatus { ready: 3, ..QueueStatus::default() },
        }
    }

    fn board() -> Board {
        let board = Board::new(Duration::from_secs(60), &[("one", "observe"), ("two", "observe")]);
        board.traffic(QueueStatus { ready: 1, ..QueueStatus::default() }, Vec::new(), false);
        board
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_replica_writes_is_shown_as_it_says_with_its_age() {
        let board = board();
        board.project("one", |project| project.lease = Some(lease(false)));
        let own = board.status_json();
        board.elsewhere("one", Some(Elsewhere::new("b/2", Duration::from_secs(2), said(30))));
        tokio::time::advance(Duration::from_secs(3)).await;

        let shown: Value = serde_json::from_str(&board.status_json()).unwrap();
        let event: Value = serde_json::from_str(&board.snapshot_json()).unwrap();

        let one = &shown["projects"][0];
        assert_eq!(
            (&one["name"], &one["converged"], &one["desired"]["resources"]),
            (&json!("one"), &json!(true), &json!(7))
        );
        let lease = &one["lease"];
        assert_eq!((&lease["isMine"], &lease["holder"]), (&json!(false), &json!("b/2")));
        assert_eq!((&lease["statusOf"], &lease["statusAgeSeconds"]), (&json!("b/2"), &json!(5)));
        assert!(lease["statusAt"].is_string());
        assert_eq!(one["problems"].as_array().unwrap().len(), 30);
        assert_eq!(event["projects"][0]["problems"].as_array().unwrap().len(), 20);
        assert_eq!(event["projects"][0]["lease"]["statusAgeSeconds"], Value::Null, "it would be news each second");
        assert_eq!((&shown["queue"]["ready"], &event["queue"]["ready"]), (&json!(4), &json!(4)));
        assert_eq!(shown["projects"][1]["converged"], false, "nothing was said of it");
        let which = WhichProblems { id: Some("r7"), limit: 5, ..WhichProblems::default() };
        let problems = serde_json::to_value(board.problems(&which)).unwrap();
        assert_eq!((&problems["total"], &problems["problems"][0]["project"]), (&json!(1), &json!("one")));

        board.elsewhere("one", None);
        assert_eq!(board.status_json(), own);
    }

    #[test]
    fn who_holds_a_project_knows_itself_whatever_was_said_before() {
        let board = board();
        board.elsewhere("one", Some(Elsewhere::new("b/2", Duration::ZERO, said(1))));
        board.project("one", |project| project.lease = Some(lease(true)));

        let shown: Value = serde_json::from_str(&board.status_json()).unwrap();

        assert_eq!(shown["projects"][0]["converged"], false);
        assert_eq!(shown["queue"]["ready"], 1);
        let problems = serde_json::to_value(board.problems(&WhichProblems { limit: 5, ..WhichProblems::default() }));
        assert_eq!(problems.unwrap()["total"], 0);
    }
}
