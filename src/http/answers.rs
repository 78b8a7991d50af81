//! What the small routes say. Field names are a contract: additions only.

use crate::telemetry::status::NotReady;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;

/// Whatever is not 2xx, where a person should know why.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Refused {
    /// What is wrong with the question, or what failed inside the daemon.
    pub error: String,
}

/// `GET /livez`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Alive {
    /// `ok`, or `stuck` where a loop turns no more.
    pub status: &'static str,
}

/// `GET /readyz`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Ready {
    /// `ready`, or `not ready`.
    pub status: &'static str,
    /// Those that are not; absent where all are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<NotReady>,
}

/// What an order did: `POST` of reconcile, approve, suspend and resume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ordered {
    /// The projects that it was carried out for.
    pub projects: Vec<String>,
    /// After an approval: how many changes go ahead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved: Option<usize>,
    /// After an approval: when the suspension ends that puts off all of that, or some of it, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_until: Option<String>,
    /// After an approval: the commit or revision of newer files, which are not compared with Descope yet. What they do not want is
    /// not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newer_files: Option<String>,
    /// After the approval of files that were put aside: their revision, which is in force from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<String>,
    /// After a suspension: when it ends, RFC 3339. Null after a resume.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "said")]
    #[allow(clippy::option_option, reason = "left out and null are two things to say")]
    pub suspended_until: Option<Option<String>>,
    /// The part of the project that it is about, `KIND` or `KIND/ID`; absent where it is all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// After a resume: was it suspended, a part by itself, in one of the projects? Those where it was are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was_suspended: Option<bool>,
    /// After a resume of all: the parts that are suspended by themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub still_suspended: Option<Vec<String>>,
    /// What the operator should know though it was carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// What is there was said, be it null.
#[allow(clippy::option_option, reason = "left out and null are two things to say")]
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Ordered {
    /// The same order was carried out for `project`, too, and there is this to say about it.
    pub fn add(&mut self, project: &str, news: Self) {
        if let Some(parts) = news.still_suspended {
            self.still_suspended.get_or_insert_default().extend(parts);
        }
        // What was suspended in one of them was resumed there; the others have nothing to do with it.
        match (self.was_suspended, news.was_suspended) {
            (Some(true), Some(false)) => return,
            (Some(false), Some(true)) => {
                *self = Self { still_suspended: self.still_suspended.take(), ..Self::default() };
            }
            _ => {}
        }
        self.was_suspended = news.was_suspended.or(self.was_suspended);
        self.projects.push(project.to_owned());
        self.approved = news.approved.or(self.approved);
        self.waits_until = news.waits_until.or(self.waits_until.take());
        self.newer_files = news.newer_files.or(self.newer_files.take());
        self.in_force = news.in_force.or(self.in_force.take());
        self.suspended_until = news.suspended_until.or(self.suspended_until.take());
        self.part = news.part.or(self.part.take());
        self.warning = match (self.warning.take(), news.warning) {
            (Some(before), Some(more)) if before != more => Some(format!("{before}; {more}")),
            (before, more) => before.or(more),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last project alone had a say.
    #[test]
    fn what_one_project_has_to_say_stays_when_the_next_has_nothing_to_say() {
        let part = |part: &str| Ordered { still_suspended: Some(vec![part.to_owned()]), ..Ordered::default() };
        let warned = Ordered { warning: Some("not written down".to_owned()), ..part("roles") };
        let mut all = Ordered::default();

        all.add("one", warned);
        all.add("two", Ordered { still_suspended: Some(Vec::new()), ..Ordered::default() });

        assert_eq!(all.projects, ["one", "two"]);
        assert_eq!(all.still_suspended, Some(vec!["roles".to_owned()]));
        assert_eq!(all.warning.as_deref(), Some("not written down"));
    }

    /// The answer named all projects, and said that it was not suspended in one.
    #[test]
    fn what_was_suspended_in_one_project_alone_was_resumed_there_alone() {
        let resumed = |was_suspended: bool| Ordered {
            was_suspended: Some(was_suspended),
            warning: (!was_suspended).then(|| "was not".to_owned()),
            ..Ordered::default()
        };
        for (answers, projects) in [
            ([false, true, false], vec!["b"]),
            ([true, false, true], vec!["a", "c"]),
            ([false, false, false], vec!["a", "b", "c"]),
        ] {
            let mut all = Ordered::default();

            for (name, was_suspended) in ["a", "b", "c"].into_iter().zip(answers) {
                all.add(name, Ordered { still_suspended: Some(vec![name.to_owned()]), ..resumed(was_suspended) });
            }

            assert_eq!(all.projects, projects);
            assert_eq!(all.still_suspended.unwrap(), ["a", "b", "c"], "by themselves");
            assert_eq!(all.warning.is_some(), projects.len() == 3);
        }
    }
}
