//! What goes wrong on demand: rules for scripted faults, draws for the ones that come by themselves.

use super::reply::End;
use super::reply::Reply;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;

/// One scripted fault. The first rule that fits a request takes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Which requests it takes.
    #[serde(rename = "match", default)]
    pub matches: Match,
    /// What becomes of them.
    pub fault: Fault,
    /// Status of `status` (default 503) and `redirect` (default 307).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Body of `status` and `html200`: an object as JSON, a string as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// More headers for the answer.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub headers: Map<String, Value>,
    /// The request takes effect although the answer does not say so. By default only for `reset_after`, `malformed_json`
    /// and those that alter a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<bool>,
    /// Waits this long before it answers, `1s`.
    #[serde(default, with = "super::options::text_duration", skip_serializing_if = "Duration::is_zero")]
    pub delay: Duration,
    /// How many items `truncated_list` leaves; by default half of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<usize>,
    /// Which fields `wrong_types` changes; by default every one but `id` and `name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// Share of the matching requests that it takes, by draw.
    #[serde(default = "always")]
    pub rate: f64,
    #[serde(skip)]
    seen: u64,
    #[serde(skip)]
    taken: u64,
}

fn always() -> f64 {
    1.0
}

/// Which requests a rule takes; what is left out fits every one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Match {
    /// The method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The path; a `*` at the end takes everything that begins so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Name or id of something in the body: of the entity itself, an item of a batch, or a name in a batch delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    /// Parameters that the query must have.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub query: Map<String, Value>,
    /// Fields which the body, or one item of its batch, must have.
    #[serde(default, alias = "body_match", skip_serializing_if = "Map::is_empty")]
    pub body: Map<String, Value>,
    /// From the nth matching request on; without `times`, that one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nth: Option<u64>,
    /// So many requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// An answer with another status.
    Status,
    /// A page with status 200.
    #[serde(rename = "html200")]
    Html200,
    /// Nothing with status 200.
    #[serde(rename = "empty200")]
    Empty200,
    /// The end of the list is missing.
    TruncatedList,
    /// The list is empty.
    EmptyList,
    /// `null` stands where the list should.
    NullList,
    /// `{}` stands where the list should.
    ObjectList,
    /// One item of the list comes twice.
    Twice,
    /// Fields of the items have values of another type.
    WrongTypes,
    /// A page with the status of the rule, by default 403.
    Html,
    /// The connection breaks off before the announced end of the body.
    ShortBody,
    /// The body never ends.
    EndlessBody,
    /// The connection closes; nothing happened.
    ResetBefore,
    /// It happened, and the connection closes.
    ResetAfter,
    /// The answer never comes.
    Hang,
    /// The answer ends in the middle.
    MalformedJson,
    /// 400, and the message quotes the request.
    EchoRequest,
    /// An answer that points elsewhere.
    Redirect,
    /// The answer is right and late.
    Delay,
}

impl Fault {
    /// As the log calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Html200 => "html200",
            Self::Empty200 => "empty200",
            Self::TruncatedList => "truncated_list",
            Self::EmptyList => "empty_list",
            Self::NullList => "null_list",
            Self::ObjectList => "object_list",
            Self::Twice => "twice",
            Self::WrongTypes => "wrong_types",
            Self::Html => "html",
            Self::ShortBody => "short_body",
            Self::EndlessBody => "endless_body",
            Self::ResetBefore => "reset_before",
            Self::ResetAfter => "reset_after",
            Self::Hang => "hang",
            Self::MalformedJson => "malformed_json",
            Self::EchoRequest => "echo_request",
            Self::Redirect => "redirect",
            Self::Delay => "delay",
        }
    }

    fn has_effect(self, status: Option<u16>) -> bool {
        match self {
            Self::ResetAfter
            | Self::MalformedJson
            | Self::TruncatedList
            | Self::EmptyList
            | Self::NullList
            | Self::ObjectList
            | Self::Twice
            | Self::WrongTypes
            | Self::Delay => true,
            // An endless refusal refuses; without a status the answer is right but for its end.
            Self::ShortBody | Self::EndlessBody => status.is_none(),
            Self::Html
            | Self::Status
            | Self::Html200
            | Self::Empty200
            | Self::ResetBefore
            | Self::Hang
            | Self::EchoRequest
            | Self::Redirect => false,
        }
    }
}

/// How a request ends.
#[derive(Debug, Clone)]
pub enum Ending {
    /// With an answer.
    Answer(Reply),
    /// With a closed connection.
    Drop,
    /// Not at all.
    Hang,
}

/// What a rule looks at.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a str,
    /// The path.
    pub path: &'a str,
    /// The project of the bearer.
    pub project: &'a str,
    /// The parameters of the query.
    pub query: &'a [(String, String)],
    /// The body; null where it is none or not JSON.
    pub body: &'a Value,
}

impl Rule {
    /// A rule of that fault for every request.
    pub fn new(fault: Fault) -> Self {
        Self {
            matches: Match::default(),
            fault,
            status: None,
            body: None,
            headers: Map::new(),
            effect: None,
            delay: Duration::ZERO,
            keep: None,
            fields: Vec::new(),
            rate: 1.0,
            seen: 0,
            taken: 0,
        }
    }

    /// Does the request take effect?
    pub fn has_effect(&self) -> bool {
        self.effect.unwrap_or_else(|| self.fault.has_effect(self.status))
    }

    /// How the request ends, given the answer it would have had (an empty one where it took no effect).
    pub fn end(&self, asked: Asked<'_>, reply: Reply) -> Ending {
        let mut reply = match self.fault {
            Fault::Status => self.status_reply(),
            Fault::Html200 => match &self.body {
                Some(Value::String(page)) => Reply::html(200, page),
                Some(_) | None => Reply::html(200, "<html><body>Checking your browser</body></html>"),
            },
            Fault::Empty200 => Reply::text(200, ""),
            Fault::TruncatedList => cut(reply, |length| self.keep.unwrap_or(length / 2)),
            Fault::EmptyList => cut(reply, |_| 0),
            Fault::NullList => lists(reply, |list| *list = Value::Null),
            Fault::ObjectList => lists(reply, |list| *list = json!({})),
            Fault::Twice => lists(reply, |list| {
                if let Some(items) = list.as_array_mut() {
                    items.extend(items.first().cloned());
                }
            }),
            Fault::WrongTypes => lists(reply, |list| {
                for item in list.as_array_mut().into_iter().flatten() {
                    mistype(item, &self.fields);
                }
            }),
            Fault::Html => {
                let page = self.body.as_ref().and_then(Value::as_str);
                Reply::html(self.status.unwrap_or(403), page.unwrap_or("<html><body>Access denied</body></html>"))
            }
            Fault::ShortBody => Reply { end: End::Short, ..self.status_or(reply) },
            Fault::EndlessBody => Reply { end: End::Never, ..self.status_or(reply) },
            Fault::ResetBefore | Fault::ResetAfter => return Ending::Drop,
            Fault::Hang => return Ending::Hang,
            Fault::MalformedJson => {
                let mut reply = reply;
                // An empty object loses its brace, so that it is malformed too.
                reply.body.truncate((reply.body.len() / 2).max(1));
                reply
            }
            Fault::EchoRequest => error("E011003", &format!("cannot process {}", asked.body)),
            Fault::Redirect => {
                let named = self.headers.keys().any(|name| name.eq_ignore_ascii_case("location"));
                let reply = Reply::text(self.status.unwrap_or(307), "");
                if named { reply } else { reply.with("location", "/v1/mgmt/redirected") }
            }
            Fault::Delay => reply,
        };
        for (name, value) in &self.headers {
            reply = reply.with(name, value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        Ending::Answer(reply)
    }

    fn status_or(&self, reply: Reply) -> Reply {
        if self.status.is_some() { self.status_reply() } else { reply }
    }

    fn status_reply(&self) -> Reply {
        let status = self.status.unwrap_or(503);
        match (&self.body, status) {
            (Some(Value::String(text)), _) => Reply::text(status, text),
            (Some(body), _) => Reply::json(status, body),
            (None, 400) => error("E011003", "refused by a rule of the simulator"),
            (None, 500) => Reply::json(500, &json!({ "errorCode": "E999999", "errorDescription": "Internal error" })),
            (None, 429) => {
                Reply::json(429, &json!({ "errorCode": "E130429", "errorMessage": "API rate limit exceeded." }))
            }
            (None, 502) => Reply::html(502, "<html>502 Bad Gateway</html>"),
            (None, status) => Reply::text(status, ""),
        }
    }

    fn fits(&self, asked: Asked<'_>) -> bool {
        let rule = &self.matches;
        rule.method.as_deref().is_none_or(|method| method.eq_ignore_ascii_case(asked.method))
            && rule.path.as_deref().is_none_or(|path| match path.strip_suffix('*') {
                Some(prefix) => asked.path.starts_with(prefix),
                None => asked.path == path,
            })
            && rule.project.as_deref().is_none_or(|project| project == asked.project)
            && rule.item.as_deref().is_none_or(|item| names(asked.body, item))
            && rule.query.iter().all(|(name, value)| {
                asked.query.iter().any(|(key, given)| key == name && value.as_str() == Some(given))
            })
            && (rule.body.is_empty() || entities(asked.body).any(|entity| has_all(entity, &rule.body)))
    }

    fn takes(&mut self, asked: Asked<'_>, rng: &mut fastrand::Rng) -> bool {
        if !self.fits(asked) {
            return false;
        }
        self.seen += 1;
        let most = self.matches.times.or(self.matches.nth.map(|_| 1)).unwrap_or(u64::MAX);
        let takes = self.seen >= self.matches.nth.unwrap_or(1)
            && self.taken < most
            && (self.rate >= 1.0 || rng.f64() < self.rate);
        self.taken += u64::from(takes);
        takes
    }
}

/// The rule that takes this request; beside the scripted ones, a transient fault for `rate` of the requests.
pub fn pick(rules: &mut [Rule], rate: f64, asked: Asked<'_>, rng: &mut fastrand::Rng) -> Option<Rule> {
    if let Some(rule) = rules.iter_mut().find_map(|rule| rule.takes(asked, rng).then_some(rule)) {
        return Some(rule.clone());
    }
    if rate <= 0.0 || rng.f64() >= rate {
        return None;
    }
    let (fault, status) = match rng.u8(0..4) {
        0 => (Fault::Status, Some(503)),
        1 => (Fault::Status, Some(502)),
        2 => (Fault::ResetBefore, None),
        _ => (Fault::ResetAfter, None),
    };
    Some(Rule { status, ..Rule::new(fault) })
}

/// The body itself, what it wraps, and the items of its batch.
fn entities(body: &Value) -> impl Iterator<Item = &Map<String, Value>> {
    let values = || body.as_object().into_iter().flat_map(Map::values);
    let items = values().filter_map(Value::as_array).flatten().filter_map(Value::as_object);
    body.as_object().into_iter().chain(values().filter_map(Value::as_object)).chain(items)
}

fn has_all(entity: &Map<String, Value>, wanted: &Map<String, Value>) -> bool {
    wanted.iter().all(|(name, value)| entity.get(name) == Some(value))
}

fn names(body: &Value, item: &str) -> bool {
    let is = |value: Option<&Value>| value.and_then(Value::as_str) == Some(item);
    let batch = ["names", "ids", "roleNames", "roleIds"].into_iter().filter_map(|list| body.get(list)?.as_array());
    // What belongs to a tenant and has no name of its own is known by the tenant's.
    let of_tenant = body.get("name").is_none() && body.get("id").is_none() && is(body.get("tenantId"));
    of_tenant
        || entities(body)
            .any(|entity| ["name", "newName", "id", "flowId"].into_iter().any(|field| is(entity.get(field))))
        || batch.flatten().any(|value| is(Some(value)))
}

fn error(code: &str, message: &str) -> Reply {
    let body = json!({ "errorCode": code, "errorDescription": "Request is invalid", "errorMessage": message });
    Reply::json(400, &body)
}

/// Leaves so many items of every list at the top of the answer.
fn cut(reply: Reply, keep: impl Fn(usize) -> usize) -> Reply {
    lists(reply, |list| {
        if let Some(items) = list.as_array_mut() {
            items.truncate(keep(items.len()));
        }
    })
}

/// Changes every list at the top of the answer.
fn lists(mut reply: Reply, change: impl Fn(&mut Value)) -> Reply {
    if let Ok(Value::Object(mut body)) = serde_json::from_slice(&reply.body) {
        body.values_mut().filter(|value| value.is_array()).for_each(change);
        reply.body = Value::Object(body).to_string().into_bytes();
    }
    reply
}

/// Gives fields of an item a value of another type.
fn mistype(item: &mut Value, only: &[String]) {
    let Some(fields) = item.as_object_mut() else { return };
    for (name, value) in fields {
        let meant = if only.is_empty() { name != "id" && name != "name" } else { only.contains(name) };
        if meant {
            *value = match value {
                Value::String(_) => json!(7),
                Value::Array(_) => json!(true),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => json!("x"),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(value: Value) -> Rule {
        serde_json::from_value(value).unwrap()
    }

    fn asked<'a>(method: &'a str, path: &'a str, body: &'a Value) -> Asked<'a> {
        Asked { method, path, project: "P2", query: &[], body }
    }

    fn taken(rule: &mut Rule, times: usize) -> Vec<usize> {
        let mut rng = fastrand::Rng::with_seed(1);
        (1..=times).filter(|_| rule.takes(asked("POST", "/v1/mgmt/role/create", &Value::Null), &mut rng)).collect()
    }

    #[test]
    fn nth_alone_takes_one_request_and_with_times_that_many_from_there() {
        assert_eq!(taken(&mut rule(json!({ "fault": "hang", "match": { "nth": 3 } })), 6), [3]);
        assert_eq!(taken(&mut rule(json!({ "fault": "hang", "match": { "nth": 2, "times": 2 } })), 6), [2, 3]);
        assert_eq!(taken(&mut rule(json!({ "fault": "hang", "match": { "times": 2 } })), 6), [1, 2]);
        assert_eq!(taken(&mut rule(json!({ "fault": "hang" })), 3), [1, 2, 3]);
    }

    #[test]
    fn a_rate_takes_its_share_and_the_same_ones_for_a_seed() {
        let share = || taken(&mut rule(json!({ "fault": "hang", "rate": 0.2 })), 1000);

        assert_eq!(share(), share());
        assert!((150..250).contains(&share().len()), "{}", share().len());
    }

    #[test]
    fn a_path_matches_exactly_or_by_prefix() {
        let exact = rule(json!({ "fault": "hang", "match": { "method": "post", "path": "/v1/mgmt/role/create" } }));
        let prefix = rule(json!({ "fault": "hang", "match": { "path": "/v1/mgmt/role/*" } }));
        let table = [
            ("POST", "/v1/mgmt/role/create", true, true),
            ("GET", "/v1/mgmt/role/create", false, true),
            ("POST", "/v1/mgmt/role/create/batch", false, true),
            ("POST", "/v1/mgmt/permission/create", false, false),
        ];

        for (method, path, fits_exact, fits_prefix) in table {
            let asked = asked(method, path, &Value::Null);
            assert_eq!((exact.fits(asked), prefix.fits(asked)), (fits_exact, fits_prefix), "{method} {path}");
        }
    }

    #[test]
    fn one_resource_is_found_alone_in_a_batch_and_in_a_batch_delete() {
        let item = rule(json!({ "fault": "status", "match": { "item": "X" } }));
        let fields = rule(json!({ "fault": "status", "match": { "body": { "name": "X", "tenantId": "acme" } } }));
        let table = [
            (json!({ "name": "X" }), true, false),
            (json!({ "roles": [{ "name": "Y" }, { "name": "X", "tenantId": "acme" }] }), true, true),
            (json!({ "roleNames": ["Y", "X"], "tenantId": "acme" }), true, false),
            (json!({ "name": "Y", "description": "X" }), false, false),
            (Value::Null, false, false),
        ];

        for (body, by_item, by_fields) in table {
            let asked = asked("POST", "/", &body);
            assert_eq!((item.fits(asked), fields.fits(asked)), (by_item, by_fields), "{body}");
        }
    }

    #[test]
    fn lists_lose_their_end_or_everything() {
        let reply = Reply::json(200, &json!({ "roles": [1, 2, 3, 4, 5] }));
        let body = |rule: Value| match rule_end(rule, reply.clone()) {
            Ending::Answer(reply) => String::from_utf8(reply.body).unwrap(),
            Ending::Drop | Ending::Hang => String::new(),
        };

        assert_eq!(body(json!({ "fault": "truncated_list" })), r#"{"roles":[1,2]}"#);
        assert_eq!(body(json!({ "fault": "truncated_list", "keep": 4 })), r#"{"roles":[1,2,3,4]}"#);
        assert_eq!(body(json!({ "fault": "empty_list" })), r#"{"roles":[]}"#);
        assert!(serde_json::from_str::<Value>(&body(json!({ "fault": "malformed_json" }))).is_err());
    }

    fn rule_end(value: Value, reply: Reply) -> Ending {
        rule(value).end(asked("GET", "/", &Value::Null), reply)
    }

    #[test]
    fn what_a_rule_does_not_know_is_an_error() {
        assert!(serde_json::from_value::<Rule>(json!({ "fault": "hang", "time": 2 })).is_err());
        assert!(serde_json::from_value::<Rule>(json!({ "fault": "explode" })).is_err());
    }
}
