//! What is not at rest, resource by resource, with the reason. The rows are bounded, the counts are not.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// So many resources are told of each reason. The rest is counted: a project of a hundred thousand waits, too.
const MOST_OF_ONE: u64 = 30;
/// Of a plan. Whoever tells them holds up the queue.
const MOST_OF_PLAN: u64 = 10_000;

/// Why something does not happen now. What is rare and lasts comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// A guard, the policy or time keeps it back, in a word of its own.
    Held(&'static str),
    /// It was written a moment ago, and Descope does not show it yet.
    Unconfirmed,
    /// A call of the replica that held the project before may still be under way.
    Handover,
    /// What it takes to decide could not be observed.
    Unobserved,
    /// It is looked at in rotation, and its turn has not come yet.
    Rotation,
    /// Refused until something changes.
    Parked,
    /// The project as a whole waits.
    Paused,
    /// It failed for now; another try is scheduled.
    Backoff,
    /// Something else goes first.
    Dependency,
    /// Descope said 429: nobody sends before the gate opens.
    Gate,
    /// Calls that Descope does not answer take every worker.
    Answer,
    /// It goes out as the rate limit allows.
    Budget,
}

impl Why {
    /// The word in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held(hold) => hold,
            Self::Unconfirmed => "unconfirmed",
            Self::Handover => "handover",
            Self::Unobserved => "unobserved",
            Self::Rotation => "rotation",
            Self::Parked => "parked",
            Self::Paused => "paused",
            Self::Backoff => "backoff",
            Self::Dependency => "dependency",
            Self::Gate => "gate",
            Self::Answer => "answer",
            Self::Budget => "budget",
        }
    }
}

/// One resource that is not at rest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wait {
    /// The YAML key.
    pub kind: String,
    /// The identity; empty for a kind as a whole.
    pub id: String,
    /// The reason in a word of a closed set, and after a colon what there is to say.
    pub why: String,
    /// RFC 3339.
    pub since: Option<String>,
    /// RFC 3339; null where no time ends it, or nobody knows which.
    pub until: Option<String>,
}

impl Wait {
    /// The reason in its word.
    pub fn word(&self) -> &str {
        self.why.split(':').next().unwrap_or_default()
    }
}

/// What a [`Wait`] says besides kind and reason.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// The identity.
    pub id: String,
    /// For the operator; may be empty.
    pub what: String,
    /// RFC 3339.
    pub since: Option<String>,
    /// RFC 3339.
    pub until: Option<String>,
}

/// What a change waits for that nothing keeps back but its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The reason.
    pub why: Why,
    /// For the operator.
    pub what: &'static str,
    /// When it ends, RFC 3339.
    pub until: Option<String>,
}

impl Turn {
    /// Of a limiter whose gate opens then, null while it is open; and do calls that hang take every worker?
    pub fn of_traffic(paused_until: Option<String>, are_hanging: bool) -> Self {
        match paused_until {
            Some(until) => {
                let what = "Descope's rate limit was reached, and nothing is sent meanwhile";
                Self { why: Why::Gate, what, until: Some(until) }
            }
            None if are_hanging => {
                let what =
                    "the calls under way, as many as `concurrency` allows, have waited for seconds for an answer";
                Self { why: Why::Answer, what, until: None }
            }
            None => Self { why: Why::Budget, what: "it goes out as the rate limit allows", until: None },
        }
    }

    /// Is it what a task waits for that has nothing else to wait for?
    pub(super) fn is_of_limiter(&self) -> bool {
        matches!(self.why, Why::Gate | Why::Answer | Why::Budget)
    }

    /// Puts itself in the place of what was noted of the gate when it was another way.
    pub(super) fn retell(&self, waits: &mut [Wait], counts: &mut BTreeMap<&'static str, u64>) {
        let now = self.why.as_str();
        let others = [Why::Gate, Why::Answer, Why::Budget].map(Why::as_str);
        let before = || others.into_iter().filter(|word| *word != now);
        for word in before() {
            if let Some(count) = counts.remove(word) {
                *counts.entry(now).or_default() += count;
            }
        }
        for wait in waits.iter_mut().filter(|wait| before().any(|word| wait.word() == word)) {
            wait.why = format!("{now}: {}", self.what);
            wait.until.clone_from(&self.until);
        }
        for wait in waits.iter_mut().filter(|wait| self.until.is_some() && wait.word() == now) {
            wait.until.clone_from(&self.until);
        }
    }
}

/// All that waits in a project.
#[derive(Debug, Clone)]
pub struct Waits {
    most: u64,
    rows: Vec<(Why, Wait)>,
    counts: BTreeMap<Why, u64>,
}

impl Waits {
    /// Nothing yet. Of each reason the first will be told, and the rest counted.
    pub fn first() -> Self {
        Self::with_most(MOST_OF_ONE)
    }

    /// Nothing yet. Far more of each reason will be told, as a plan names its changes one by one.
    pub fn of_plan() -> Self {
        Self::with_most(MOST_OF_PLAN)
    }

    fn with_most(most: u64) -> Self {
        Self { most, rows: Vec::new(), counts: BTreeMap::new() }
    }

    /// One more. It is asked to `tell` only where there is room.
    pub fn add(&mut self, why: Why, kind: &str, tell: impl FnOnce() -> Told) {
        let count = self.counts.entry(why).or_default();
        *count += 1;
        if *count <= self.most {
            let Told { id, what, since, until } = tell();
            let word = why.as_str();
            let text = if what.is_empty() { word.to_owned() } else { format!("{word}: {what}") };
            self.rows.push((why, Wait { kind: kind.to_owned(), id, why: text, since, until }));
        }
    }

    /// How many wait for each reason, all of them. Where all are told, as many as there are rows.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut told: BTreeSet<(Why, &str, &str, &str)> = BTreeSet::new();
        for (why, wait) in
            self.rows.iter().filter(|(why, _)| self.counts.get(why).is_some_and(|count| *count <= self.most))
        {
            told.insert((*why, &wait.kind, &wait.id, &wait.why));
        }
        let rows = |why: Why| told.iter().filter(|(of, ..)| *of == why).count() as u64;
        let count = |(why, count): (&Why, &u64)| (why.as_str(), if *count <= self.most { rows(*why) } else { *count });
        self.counts.iter().map(count).collect()
    }

    /// The first of each reason, by reason and identity. What several calls of a resource wait for is told once.
    pub fn rows(mut self) -> Vec<Wait> {
        self.rows.sort();
        self.rows.dedup_by(|later, first| {
            let is_same = (&later.0, &later.1.kind, &later.1.id, &later.1.why)
                == (&first.0, &first.1.kind, &first.1.id, &first.1.why);
            if is_same && first.1.since.is_none() {
                first.1.since = later.1.since.take();
            }
            is_same
        });
        self.rows.into_iter().map(|(_, wait)| wait).collect()
    }
}
