//! Who did what to a project, as far as Descope's own audit trail tells. Its events are searchable about a minute after they
//! happened, and a project without that feature has none.

use super::Client;
use super::Error;
use super::answer;
use super::call::Call;
use super::call::Document;
use super::call::route;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use std::time::SystemTime;

/// The most that one page holds.
const PAGE: usize = 1000;

/// What users of a project do all the time, and nobody to its settings.
const EVERYDAY: [&str; 6] =
    ["LoginSucceed", "LoginFailed", "LoginStarted", "LoginStartedFailed", "UserRefresh", "LoginExceedMaxAttempts"];

/// Of a text in an event.
const LONGEST: usize = 100;

/// Names in an event beyond so many are not read.
const NAMES: usize = 200;

/// One event. Its texts are one bounded line each, without secrets of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, by the clock of Descope.
    pub at: SystemTime,
    /// `RoleModified`, as Descope calls it.
    pub action: String,
    /// The id of who did it: of a person, or of a key.
    pub actor: String,
    /// What that person signs in as, where it is told.
    pub login: Option<String>,
    /// How, in Descope's words; may be empty.
    pub through: String,
    /// Tenants that it was about.
    pub tenants: Vec<String>,
    /// Every text in what is told beside: names and ids among them. Nothing of it is shown.
    pub names: Vec<String>,
}

impl Client {
    /// The events between two times, of one page. What is no event is left out.
    pub async fn events(&self, from: SystemTime, to: SystemTime) -> Result<Vec<Event>, Error> {
        let body = json!({ "from": millis(from), "to": millis(to), "excludedActions": EVERYDAY, "size": PAGE });
        let call = Call::object(route!(POST "/v1/mgmt/audit/search")).asking(body);
        let answer = self.read(&call).await?;
        let rows = answer.get("audits").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let clean = |text: &str| answer::clean(text, LONGEST, &self.shared.settings.redactor);
        Ok(rows.iter().take(PAGE).filter_map(Value::as_object).filter_map(|row| event(row, &clean)).collect())
    }
}

fn event(row: &Document, clean: &dyn Fn(&str) -> String) -> Option<Event> {
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
    let list = |name: &str| row.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let occurred = row.get("occurred")?;
    // 64-bit integers come as texts.
    let millis = occurred.as_u64().or_else(|| occurred.as_str()?.parse().ok())?;
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))?;
    let (user, actor) = (text("userId"), text("actorId"));
    // The login is of whom it was about, which may be somebody else.
    let login = list("externalIds").iter().find_map(Value::as_str).filter(|_| user.is_empty() || user == actor);
    let through: Vec<String> = ["method", "device"].map(|name| clean(text(name))).into_iter().collect();
    let through: Vec<String> = through.into_iter().filter(|part| !part.is_empty()).collect();
    let mut names = Vec::new();
    row.get("data").into_iter().for_each(|data| collect(data, 0, &mut names));
    Some(Event {
        at,
        action: clean(text("action")),
        actor: clean(actor),
        login: login.map(clean).filter(|login| !login.is_empty()),
        through: through.join(", "),
        tenants: list("tenants").iter().filter_map(Value::as_str).take(NAMES).map(str::to_owned).collect(),
        names,
    })
}

fn collect(value: &Value, depth: usize, names: &mut Vec<String>) {
    match value {
        _ if names.len() >= NAMES || depth > 4 => {}
        Value::String(text) => names.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, depth + 1, names)),
        Value::Object(entries) => entries.values().for_each(|value| collect(value, depth + 1, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_it_is_documented_and_whatever_else_comes_is_left_out() {
        let clean = |text: &str| answer::clean(text, LONGEST, &crate::telemetry::redact::Redactor::new());
        let read = |row: Value| event(row.as_object().unwrap(), &clean);

        let told = read(json!({
            "action": "RoleModified", "actorId": "U2a", "userId": "", "occurred": "1767225600000", "device": "Chrome",
            "method": "", "externalIds": ["jane@example.com"], "tenants": [], "data": { "role": { "id": "ROL1", "n": 1 } },
        }));
        let told = told.unwrap();
        assert_eq!((told.actor.as_str(), told.login.as_deref()), ("U2a", Some("jane@example.com")));
        assert_eq!((told.through.as_str(), &told.names), ("Chrome", &vec!["ROL1".to_owned()]));
        for row in [json!({}), json!({ "occurred": null }), json!({ "occurred": "soon" }), json!({ "occurred": -1 })] {
            assert_eq!(read(row.clone()), None, "{row}");
        }
        let odd = json!({ "occurred": 1, "actorId": 7, "externalIds": "x", "tenants": {}, "data": "d", "action": [] });
        let odd = read(odd).unwrap();
        assert_eq!((odd.actor.as_str(), odd.login, odd.tenants), ("", None, Vec::new()));
        let hostile = format!("a\u{202e}b\u{1b}[31m\nc{}", "x".repeat(500));
        let told = read(json!({ "occurred": 1, "actorId": hostile })).unwrap();
        assert!(told.actor.starts_with("ab") && told.actor.chars().count() <= LONGEST + 1, "{}", told.actor);
        assert!(!told.actor.contains(['\u{202e}', '\u{1b}', '\n']), "{}", told.actor);
        let other = json!({ "occurred": 1, "actorId": "U1", "userId": "U2", "externalIds": ["victim@example.com"] });
        assert_eq!(read(other).unwrap().login, None, "the login is of whom it was about");
    }
}
