//! `GET /api/v1/history`: passes, or attempted changes and orders; newest first, filtered, in windows.

use crate::http::Served;
use crate::http::routes;
use crate::state::AuditRow;
use crate::state::GapView;
use crate::state::ORDERS;
use crate::state::PassView;
use crate::state::Place;
use crate::state::State as Database;
use crate::state::Window;
use crate::telemetry::clock;
use crate::telemetry::repeats::Spell;
use crate::telemetry::status::rfc3339;
use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::Semaphore;

/// Rows of an answer that does not ask for another number.
const USUAL: usize = 50;
/// Rows of any answer.
const MOST: usize = 200;
/// Questions that are answered at a time; others wait. Each reads the disk.
const AT_A_TIME: usize = 2;

/// Where the history is, and whose.
#[derive(Debug)]
pub struct History {
    place: Place,
    /// Host, Descope's id and owner of each project of the config.
    projects: BTreeMap<String, Claim>,
    turns: Semaphore,
    unread: Spell,
}

/// Host, Descope's id, owner.
pub type Claim = (String, String, String);

impl History {
    /// Reads the state in `place`, beside its writer.
    pub fn new(place: Place, projects: BTreeMap<String, Claim>) -> Self {
        Self { place, projects, turns: Semaphore::new(AT_A_TIME), unread: Spell::default() }
    }

    /// As the config calls it; what it no longer has goes by Descope's id.
    fn name<'a>(&'a self, claim: &'a Claim) -> &'a str {
        let named = self.projects.iter().find(|(_, other)| *other == claim);
        named.map_or(&claim.1, |(name, _)| name)
    }
}

/// `?of=passes|changes&project=&kind=&id=&outcome=&revision=&since=&before=&limit=`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    of: Option<String>,
    project: Option<String>,
    kind: Option<String>,
    id: Option<String>,
    outcome: Option<String>,
    revision: Option<String>,
    since: Option<String>,
    before: Option<i64>,
    limit: Option<usize>,
}

enum Of {
    Passes,
    Changes,
}

impl Asked {
    fn window(self, history: &History, now: SystemTime) -> Result<(Of, Window), (StatusCode, &'static str)> {
        let bad = |what| (StatusCode::BAD_REQUEST, what);
        let of = match self.of.as_deref() {
            None | Some("passes") => Of::Passes,
            Some("changes") => Of::Changes,
            Some(_) => return Err(bad("of is passes or changes")),
        };
        if matches!(of, Of::Passes) && (self.kind.is_some() || self.id.is_some()) {
            return Err(bad("a pass has no kind and no id; ask with of=changes"));
        }
        let project = match &self.project {
            None => None,
            Some(name) => Some(history.projects.get(name).ok_or((StatusCode::NOT_FOUND, "no such project"))?.clone()),
        };
        let time = |text: &str| {
            let ago = crate::config::span(text).ok().and_then(|ago| now.checked_sub(ago));
            ago.or_else(|| humantime::parse_rfc3339_weak(text).ok())
        };
        let since = match &self.since {
            None => None,
            Some(text) => {
                Some(time(text).ok_or(bad("since is a duration such as 2h or a time such as 2026-01-31T10:00:00Z"))?)
            }
        };
        let limit = self.limit.unwrap_or(USUAL).clamp(1, MOST);
        let Self { kind, id, outcome, revision, before, .. } = self;
        Ok((of, Window { project, kind, id, outcome, revision, since, before, limit }))
    }
}

/// The rows, and what to ask with to get older ones.
pub async fn history(State(served): State<Arc<Served>>, asked: Result<Query<Asked>, QueryRejection>) -> Response {
    let Ok(Query(asked)) = asked else {
        let parameters =
            "the parameters are of, project, kind, id, outcome, revision, since, before and limit, each once";
        return routes::error(StatusCode::BAD_REQUEST, parameters);
    };
    let (of, window) = match asked.window(&served.history, clock::now()) {
        Ok(asked) => asked,
        Err((status, what)) => return routes::error(status, what),
    };
    let Ok(_turn) = served.history.turns.acquire().await else {
        return routes::error(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping");
    };
    let shown = Arc::clone(&served);
    match tokio::task::spawn_blocking(move || read(&shown.history, &of, &window)).await {
        Ok(Ok(rows)) => {
            served.history.unread.over();
            Json(rows).into_response()
        }
        Ok(Err(error)) => {
            if let Some(times) = served.history.unread.met() {
                tracing::warn!(error, times, "cannot read the history");
            }
            routes::error(StatusCode::SERVICE_UNAVAILABLE, "the history cannot be read; the daemon's log says why")
        }
        Err(_) => routes::error(StatusCode::INTERNAL_SERVER_ERROR, "reading the history failed inside the daemon"),
    }
}

fn read(history: &History, of: &Of, window: &Window) -> Result<Value, String> {
    // A connection of its own: a long look through the trail holds up no change.
    let state = Database::look_at(&history.place).map_err(|error| error.to_string())?;
    let state = state.ok_or_else(|| format!("no state in {}", history.place))?;
    let older = |rows: usize, last: Option<i64>| if rows == window.limit { last } else { None };
    let document = match of {
        Of::Passes => {
            let rows = state.passes(window).map_err(|error| error.to_string())?;
            let older = older(rows.len(), rows.last().map(|row| row.number));
            let gaps = state.gaps(window).map_err(|error| error.to_string())?;
            // What is between these passes, and after them where they are the newest.
            let first = rows.last().filter(|_| older.is_some()).map(|row| row.finished_at);
            let last = rows.first().filter(|_| window.before.is_some()).map(|row| row.finished_at);
            let is_here =
                |gap: &&GapView| first.is_none_or(|at| gap.until >= at) && last.is_none_or(|at| gap.until <= at);
            let gaps = gaps.iter().filter(is_here).map(|gap| Gap::of(history, gap)).collect();
            let passes = rows.iter().map(|row| Pass::of(history, row)).collect();
            serde_json::to_value(PassPage { format_version: 1, passes, gaps, older })
        }
        Of::Changes => {
            let rows = state.changes(window).map_err(|error| error.to_string())?;
            let older = older(rows.len(), rows.last().map(|(number, _)| *number));
            let changes = rows.iter().map(|(number, row)| Change::of(history, *number, row)).collect();
            serde_json::to_value(ChangePage { format_version: 1, changes, older })
        }
    };
    document.map_err(|error| error.to_string())
}

/// `GET /api/v1/history`: the newest passes.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PassPage {
    format_version: u32,
    passes: Vec<Pass>,
    /// Times around these of which not everything could be written down, newest first, whichever passes are asked for.
    gaps: Vec<Gap>,
    /// What `before` is to be for the ones before these; null where there are none.
    older: Option<i64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Gap {
    /// As the config calls it; what it no longer has goes by Descope's id.
    project: String,
    /// RFC 3339: from then on.
    since: String,
    /// RFC 3339: until then.
    until: String,
}

/// `GET /api/v1/history?of=changes`: the newest attempted changes and orders.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangePage {
    format_version: u32,
    changes: Vec<Change>,
    /// What `before` is to be for the ones before these; null where there are none.
    older: Option<i64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Pass {
    /// The larger, the newer.
    number: i64,
    /// As the config calls it; what it no longer has goes by Descope's id.
    project: String,
    /// RFC 3339.
    started_at: String,
    /// RFC 3339.
    finished_at: String,
    /// In milliseconds.
    duration_ms: u64,
    /// `startup`, `watch`, `interval`, `signal` or `api`.
    trigger: String,
    /// Digest of the files in force.
    revision: String,
    /// `noop`, `applied`, `partial`, `held` or `failed`.
    result: String,
    /// Planned.
    changes: u64,
    /// Writes that it set off, tried again ones included.
    writes: u64,
    /// Of those, refused or without an answer.
    failed_writes: u64,
    /// Could newer files not be used, so that it is of the last good ones?
    newest_invalid: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Change {
    /// The larger, the newer.
    number: i64,
    /// As the config calls it; what it no longer has goes by Descope's id.
    project: String,
    #[serde(flatten)]
    attempt: Tried,
}

/// One row of the audit trail.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    /// RFC 3339.
    at: String,
    /// What set it off: `startup`, `watch`, `interval`, `signal` or `api`.
    trigger: String,
    /// Digest of the files in force; empty for an order.
    revision: String,
    /// Label from git of those files.
    commit: Option<String>,
    /// Where the YAML declares it.
    file: Option<String>,
    /// From 1.
    line: Option<u32>,
    /// The YAML key; `operator` for an order.
    kind: String,
    /// The identity.
    id: String,
    /// `create`, `update`, `rename` or `delete`; or the order.
    action: String,
    /// What became different: a list of `path`, `from`, `to`, with `drift` true where somebody else had changed it, and no commit; empty
    /// for an order.
    fields: Value,
    /// Of an order: the kinds (`KIND`) and resources (`KIND/ID`) that it was about, the first hundred; absent where it was about the
    /// whole project.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    about: Vec<String>,
    /// From 1.
    attempt: u32,
    /// How it ended: `ok`, `failed`, ...
    outcome: String,
    /// Why; may be empty.
    message: String,
    /// Who changed what it put back, how and when, where Descope's audit trail tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    /// In milliseconds.
    duration_ms: u64,
}

impl Pass {
    fn of(history: &History, row: &PassView) -> Self {
        let duration = row.finished_at.duration_since(row.started_at).unwrap_or_default();
        Self {
            number: row.number,
            project: history.name(&row.project).to_owned(),
            started_at: rfc3339(row.started_at),
            finished_at: rfc3339(row.finished_at),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            trigger: row.trigger.clone(),
            revision: row.revision.clone(),
            result: row.result.clone(),
            changes: row.changes,
            writes: row.writes,
            failed_writes: row.failed_writes,
            newest_invalid: row.is_invalid,
        }
    }
}

impl Gap {
    fn of(history: &History, gap: &GapView) -> Self {
        Self { project: history.name(&gap.project).to_owned(), since: rfc3339(gap.since), until: rfc3339(gap.until) }
    }
}

impl Change {
    fn of(history: &History, number: i64, row: &AuditRow) -> Self {
        let claim = (row.host.clone(), row.project_id.clone(), row.owner.clone());
        Self { number, project: history.name(&claim).to_owned(), attempt: Tried::of(row) }
    }
}

impl Tried {
    /// As it is told.
    pub fn of(row: &AuditRow) -> Self {
        let (fields, about) = if row.kind == ORDERS {
            (Value::Array(Vec::new()), serde_json::from_str(&row.fields).unwrap_or_default())
        } else {
            (serde_json::from_str(&row.fields).unwrap_or_default(), Vec::new())
        };
        Self {
            at: rfc3339(row.at),
            trigger: row.trigger.clone(),
            revision: row.revision.clone(),
            commit: row.commit.clone(),
            file: row.file.clone(),
            line: row.line,
            kind: row.kind.clone(),
            id: row.id.clone(),
            action: row.action.clone(),
            fields,
            about,
            attempt: row.attempt,
            outcome: row.outcome.clone(),
            message: row.message.clone(),
            actor: row.actor.clone(),
            duration_ms: row.duration_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Result<(Of, Window), (StatusCode, &'static str)> {
        let claim = ("h".to_owned(), "P".to_owned(), "o".to_owned());
        let history = History::new(Place::Directory("".into()), BTreeMap::from([("one".to_owned(), claim)]));
        let uri = format!("http://x/?{query}").parse().unwrap();
        let Ok(Query(asked)) = Query::<Asked>::try_from_uri(&uri) else {
            return Err((StatusCode::BAD_REQUEST, "unreadable"));
        };
        asked.window(&history, SystemTime::now())
    }

    #[test]
    fn a_question_is_bounded_and_a_wrong_one_is_refused() {
        assert_eq!(asked("").unwrap().1.limit, USUAL);
        assert_eq!(asked("limit=100000").unwrap().1.limit, MOST);
        assert_eq!(asked("limit=0").unwrap().1.limit, 1);
        let (_, window) = asked("of=changes&project=one&kind=roles&id=a%2Fb&since=2h&before=7").unwrap();
        assert_eq!(
            (window.id.as_deref(), window.before, window.project.unwrap().1),
            (Some("a/b"), Some(7), "P".to_owned())
        );
        for (query, status) in [
            ("of=everything", 400),
            ("kind=roles", 400),
            ("since=yesterday", 400),
            ("project=two", 404),
            ("projekt=one", 400),
            ("limit=-1", 400),
            ("before=x", 400),
        ] {
            assert_eq!(asked(query).err().unwrap().0, status, "{query}");
        }
    }
}
