//! `GET /api/v1/history`: passes, or attempted changes and orders; newest first, filtered, in windows.

use crate::http::Served;
use crate::http::routes;
use crate::state::AuditRow;
use crate::state::PassView;
use crate::state::State as Database;
use crate::state::Window;
use crate::telemetry::status::rfc3339;
use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
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
    dir: PathBuf,
    /// Host, Descope's id and owner of each project of the config.
    projects: BTreeMap<String, Claim>,
    turns: Semaphore,
}

/// Host, Descope's id, owner.
pub type Claim = (String, String, String);

impl History {
    /// Reads the state in `dir`, beside its writer.
    pub fn new(dir: PathBuf, projects: BTreeMap<String, Claim>) -> Self {
        Self { dir, projects, turns: Semaphore::new(AT_A_TIME) }
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
    let (of, window) = match asked.window(&served.history, SystemTime::now()) {
        Ok(asked) => asked,
        Err((status, what)) => return routes::error(status, what),
    };
    let Ok(_turn) = served.history.turns.acquire().await else {
        return routes::error(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping");
    };
    let shown = Arc::clone(&served);
    match tokio::task::spawn_blocking(move || read(&shown.history, &of, &window)).await {
        Ok(Ok(rows)) => Json(rows).into_response(),
        Ok(Err(error)) => {
            tracing::warn!(error, "cannot read the history");
            routes::error(StatusCode::SERVICE_UNAVAILABLE, "the history cannot be read; the daemon's log says why")
        }
        Err(_) => routes::error(StatusCode::INTERNAL_SERVER_ERROR, "reading the history failed inside the daemon"),
    }
}

fn read(history: &History, of: &Of, window: &Window) -> Result<Value, String> {
    // A connection of its own: a long look through the trail holds up no change.
    let state = Database::open_read_only(&history.dir).map_err(|error| error.to_string())?;
    let state = state.ok_or_else(|| format!("no state in {}", history.dir.display()))?;
    let (name, rows, last): (&str, Vec<Value>, Option<i64>) = match of {
        Of::Passes => {
            let rows = state.passes(window).map_err(|error| error.to_string())?;
            ("passes", rows.iter().map(|row| pass(history, row)).collect(), rows.last().map(|row| row.number))
        }
        Of::Changes => {
            let rows = state.changes(window).map_err(|error| error.to_string())?;
            let last = rows.last().map(|(number, _)| *number);
            ("changes", rows.iter().map(|(number, row)| change(history, *number, row)).collect(), last)
        }
    };
    let older = if rows.len() == window.limit { last } else { None };
    Ok(json!({ "formatVersion": 1, name: rows, "older": older }))
}

fn pass(history: &History, row: &PassView) -> Value {
    let duration = row.finished_at.duration_since(row.started_at).unwrap_or_default();
    json!({
        "number": row.number,
        "project": history.name(&row.project),
        "startedAt": rfc3339(row.started_at),
        "finishedAt": rfc3339(row.finished_at),
        "durationMs": u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        "trigger": row.trigger,
        "revision": row.revision,
        "result": row.result,
        "changes": row.changes,
        "writes": row.writes,
        "failedWrites": row.failed_writes,
    })
}

fn change(history: &History, number: i64, row: &AuditRow) -> Value {
    let claim = (row.host.clone(), row.project_id.clone(), row.owner.clone());
    json!({
        "number": number,
        "project": history.name(&claim),
        "at": rfc3339(row.at),
        "trigger": row.trigger,
        "revision": row.revision,
        "commit": row.commit,
        "file": row.file,
        "line": row.line,
        "kind": row.kind,
        "id": row.id,
        "action": row.action,
        "fields": serde_json::from_str::<Value>(&row.fields).unwrap_or_default(),
        "attempt": row.attempt,
        "outcome": row.outcome,
        "message": row.message,
        "durationMs": row.duration_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Result<(Of, Window), (StatusCode, &'static str)> {
        let claim = ("h".to_owned(), "P".to_owned(), "o".to_owned());
        let history = History::new(PathBuf::new(), BTreeMap::from([("one".to_owned(), claim)]));
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
