//! What a change of a field may do to the people behind it, as its table says: lower their protection, or lock them out.

use super::Document;
use super::Field;
use super::Fields;
use super::Part;
use super::Shape;
use super::fold::is_zero;
use super::secret::item_id;
use super::spec::Back;
use super::spec::NOTHING;
use super::spec::Relies;
use super::twins;
use serde_json::Value;
use std::collections::BTreeSet;

/// What is bad about a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// It lowers protection compared with the live value.
    Weakening,
    /// It may lock people out.
    Lockout,
}

/// Which change of a field is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Risk {
    /// The protection is turned off.
    WeakerOff,
    /// It is turned on, which takes the protection away.
    WeakerOn,
    /// The rule becomes a smaller number.
    WeakerBelow,
    /// The rule becomes a larger number, or none, which 0 is.
    WeakerAbove,
    /// What is at the first path, in the unit at the second one, becomes a longer time.
    WeakerLonger(&'static str, &'static str),
    /// What was there is there no more; a choice becomes `none`.
    WeakerEmpty,
    /// An entry is added to a list of exceptions.
    WeakerMore,
    /// It becomes this.
    WeakerAs(&'static str),
    /// It was something else and becomes this; where nothing is live, nobody knows what it was.
    WeakerChanged(&'static str),
    /// An entry is added that stands for many: one with a wildcard, or a network that is everything.
    WeakerWildcard,
    /// It is turned on.
    LocksOn,
    /// It is turned off.
    LocksOff,
    /// It is turned on while what is live at this path of the resource says that there is nothing to use instead.
    LocksOnWithout(&'static str),
    /// It is turned off while that says so.
    LocksOffWithout(&'static str),
    /// What was there is there no more, or a choice becomes `none`, while what is at this path is off: as the YAML says, or
    /// else what is live.
    LocksEmptyWithout(&'static str),
    /// The same, while what is at this path is on, and so demands it.
    LocksEmptyWhile(&'static str),
    /// What was there is there no more.
    LocksEmpty,
    /// More than half of its entries go.
    LocksHalved,
}

impl Risk {
    /// What is bad about it.
    pub fn harm(self) -> Harm {
        match self {
            Self::WeakerOff
            | Self::WeakerOn
            | Self::WeakerBelow
            | Self::WeakerAbove
            | Self::WeakerLonger(..)
            | Self::WeakerEmpty
            | Self::WeakerMore
            | Self::WeakerAs(_)
            | Self::WeakerChanged(_)
            | Self::WeakerWildcard => Harm::Weakening,
            Self::LocksOn
            | Self::LocksOff
            | Self::LocksOnWithout(_)
            | Self::LocksOffWithout(_)
            | Self::LocksEmptyWithout(_)
            | Self::LocksEmptyWhile(_)
            | Self::LocksEmpty
            | Self::LocksHalved => Harm::Lockout,
        }
    }

    /// What becomes of the field at this path, in words, where that is bad.
    fn met(
        self,
        relies: Option<Relies>,
        path: &str,
        (from, to): (&Value, &Value),
        beside: &Beside<'_>,
    ) -> Option<String> {
        let is_on = |value: &Value| *value == Value::Bool(true);
        let goes_on = !is_on(from) && is_on(to);
        let goes_off = is_on(from) && !is_on(to);
        let number = |value: &Value| value.as_f64().unwrap_or_default();
        let (before, after) = (number(from), number(to));
        let lacks = |path: &str| beside.live(path).is_none_or(is_none) && !beside.is_brought(relies);
        let is_emptied = !is_none(from) && is_none(to);
        let (is_bad, what) = match self {
            Self::WeakerOff | Self::LocksOff => (goes_off, format!("{path} is turned off")),
            Self::WeakerOn | Self::LocksOn => (goes_on, format!("{path} is turned on")),
            Self::WeakerBelow => (after < before, format!("{path} goes down from {before} to {after}")),
            Self::WeakerAbove if after == 0.0 => (before > 0.0, format!("{path} is no longer limited to {before}")),
            Self::WeakerAbove => (before > 0.0 && after > before, format!("{path} goes up from {before} to {after}")),
            Self::WeakerLonger(number, unit) => {
                let (before, after) = (beside.span(number, unit, false), beside.span(number, unit, true));
                let is_longer = before.seconds > 0 && after.seconds > before.seconds;
                (is_longer, format!("{number} goes up from {} to {}", before.text, after.text))
            }
            Self::WeakerEmpty if to == NOTHING => (is_emptied, format!("{path} becomes {NOTHING}")),
            Self::WeakerEmpty | Self::LocksEmpty => (is_emptied, format!("{path} is emptied")),
            Self::WeakerMore => {
                let known = entries(from);
                let new = entries(to).into_iter().find(|entry| !known.contains(entry));
                (new.is_some(), format!("{path} gains {}", new.unwrap_or_default()))
            }
            Self::WeakerChanged(word) => {
                (!is_none(from) && from != word && to == word, format!("{path} becomes {word}"))
            }
            Self::WeakerAs(word) => (from != word && to == word, format!("{path} becomes {word}")),
            Self::WeakerWildcard => {
                let known = entries(from);
                let is_new = |entry: &&str| stands_for_many(entry) && !known.contains(entry);
                let new = entries(to).into_iter().find(is_new);
                (new.is_some(), format!("{path} gains the wildcard {}", new.unwrap_or_default()))
            }
            Self::LocksOnWithout(field) => {
                (goes_on && lacks(field), format!("{path} is turned on, and {field} says that there is none to use"))
            }
            Self::LocksOffWithout(field) => {
                (goes_off && lacks(field), format!("{path} is turned off, and {field} names no other way to log in"))
            }
            Self::LocksEmptyWithout(field) => {
                let is_last = is_emptied && beside.will_be(field, false);
                (is_last, format!("{path} was the way to log in, and {field} is off"))
            }
            Self::LocksEmptyWhile(field) => {
                let is_demanded = is_emptied && beside.will_be(field, true);
                (is_demanded, format!("{path} was the way to log in, and {field} stays on"))
            }
            Self::LocksHalved => {
                let (known, kept) = (entries(from), entries(to));
                let gone = known.iter().filter(|entry| !kept.contains(*entry)).count();
                (gone * 2 > known.len(), format!("{gone} of {} entries of {path} go", known.len()))
            }
        };
        is_bad.then_some(what)
    }
}

/// What is beside a field, in the whole of its resource.
struct Beside<'a> {
    live: Option<&'a Document>,
    declared: &'a dyn Fields,
    /// Is this field written along with it?
    is_planned: &'a dyn Fn(&str) -> bool,
    before: Before<'a>,
}

/// What was sent last for a field, by its path, of which no answer tells; `None` where nothing of it is known.
pub type Before<'a> = &'a dyn Fn(&str, &Field) -> Option<Value>;

/// A time, with its unit.
struct Span {
    seconds: i64,
    text: String,
}

/// Of a unit that the API has a word for.
pub fn seconds_of(unit: &str) -> Option<i64> {
    let seconds = match unit {
        "seconds" => 1,
        "minutes" => 60,
        "hours" => 60 * 60,
        "days" => 24 * 60 * 60,
        "weeks" => 7 * 24 * 60 * 60,
        _ => return None,
    };
    Some(seconds)
}

impl Beside<'_> {
    /// Is what the switch relies on written before it?
    fn is_brought(&self, relies: Option<Relies>) -> bool {
        let is_planned = |path: &str| path.split(['.', '[']).next().is_some_and(self.is_planned);
        let brings = |path: &&&str| twins::at(self.declared, path).is_some_and(|value| !is_none(value));
        let paths = relies.map_or(&[][..], |relies| relies.on);
        paths.iter().filter(brings).any(|path| is_planned(path))
    }

    fn live(&self, path: &str) -> Option<&Value> {
        at(self.live?, path)
    }

    /// What is there of a field, before the change.
    fn was(&self, field: &Field, path: &str, from: &Value) -> Option<Value> {
        let is_unseen = field.back == Back::Never || field.back == Back::Maybe && from.is_null();
        if is_unseen && self.live.is_some() { (self.before)(path, field) } else { None }
    }

    /// The time at these paths, as it is or, where it `will_be`, once what the YAML says of it is written. 0 where there is
    /// none that anybody knows.
    fn span(&self, number: &str, unit: &str, will_be: bool) -> Span {
        let value = |path: &str| at(self.declared, path).filter(|_| will_be).or_else(|| self.live(path));
        let unit = value(unit).and_then(Value::as_str).unwrap_or_default();
        let number = value(number).and_then(Value::as_i64).unwrap_or_default();
        let seconds = seconds_of(unit).and_then(|seconds| seconds.checked_mul(number)).unwrap_or_default();
        Span { seconds, text: format!("{number} {unit}") }
    }

    /// Is the switch at this path in this position, once what the YAML says of it is written?
    fn will_be(&self, path: &str, position: bool) -> bool {
        match at(self.declared, path) {
            Some(value) => is_zero(value) != position,
            None => self.live(path) == Some(&Value::Bool(position)),
        }
    }
}

fn is_none(value: &Value) -> bool {
    is_zero(value) || value == NOTHING
}

/// What is at this path, `settings.enabled`.
fn at<'a>(root: &'a dyn Fields, path: &str) -> Option<&'a Value> {
    let mut names = path.split('.');
    let first = root.get(names.next()?)?;
    names.try_fold(first, |value, name| value.get(name))
}

fn stands_for_many(entry: &str) -> bool {
    entry.contains('*') || entry.ends_with("/0")
}

/// Of a list, or one text.
fn entries(value: &Value) -> BTreeSet<&str> {
    match value {
        Value::String(text) if !text.is_empty() => [text.as_str()].into(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => BTreeSet::new(),
    }
}

/// What is bad about making of this live document what the YAML writes of these parts. Without a live one: about creating
/// it.
///
/// `is_planned` says of another field of it whether that is written as well: what relies on one is written after it.
/// `before` tells what no answer does.
pub fn risks(
    parts: &[&'static Part],
    declared: &dyn Fields,
    live: Option<&Document>,
    is_planned: &dyn Fn(&str) -> bool,
    before: Before<'_>,
) -> Vec<(Harm, String)> {
    let (mut found, beside) = (Vec::new(), Beside { live, declared, is_planned, before });
    for part in parts {
        let from = |field: &Field| live.and_then(|live| live.get(field.name));
        let written = part.fields.iter().filter_map(|field| Some((field, declared.get(field.name)?)));
        for (field, to) in written {
            walk(field, field.name, from(field).unwrap_or(&Value::Null), to, &beside, &mut found);
        }
    }
    // A number and its unit say the same of the time that they are.
    let mut told = BTreeSet::new();
    found.retain(|risk| told.insert(risk.clone()));
    found
}

fn walk(field: &Field, path: &str, from: &Value, to: &Value, beside: &Beside<'_>, found: &mut Vec<(Harm, String)>) {
    let was = if field.risks.is_empty() { None } else { beside.was(field, path, from) };
    let met = |risk: &Risk| {
        let what = risk.met(field.relies, path, (was.as_ref().unwrap_or(from), to), beside)?;
        Some((risk.harm(), what))
    };
    found.extend(field.risks.iter().filter_map(met));
    match field.shape {
        Shape::Object(fields) => inside(fields, path, from, to, beside, found),
        Shape::Items { key, fields, keeps } => {
            let none = Vec::new();
            let (before, after) = (from.as_array().unwrap_or(&none), to.as_array().unwrap_or(&none));
            let same = |items: &[Value], one: &Value| {
                items.iter().find(|item| item_id(key, item) == item_id(key, one)).cloned()
            };
            let at = |item: &Value| format!("{path}[{}]", item_id(key, item).join(","));
            for item in after {
                inside(fields, &at(item), &same(before, item).unwrap_or_default(), item, beside, found);
            }
            for item in before.iter().filter(|item| !keeps && same(after, item).is_none()) {
                inside(fields, &at(item), item, &Value::Null, beside, found);
            }
        }
        Shape::Text
        | Shape::Name
        | Shape::Flag
        | Shape::Integer(..)
        | Shape::OneOf(_)
        | Shape::Set
        | Shape::List(_)
        | Shape::Attributes
        | Shape::Map(_)
        | Shape::Json
        | Shape::Reference(_)
        | Shape::References(_)
        | Shape::Opaque(_)
        | Shape::Secret => {}
    }
}

/// Each field that is written; all of them where `null` clears the whole.
fn inside(
    fields: &[Field],
    path: &str,
    from: &Value,
    to: &Value,
    beside: &Beside<'_>,
    found: &mut Vec<(Harm, String)>,
) {
    for field in fields {
        let after = if to.is_null() { Some(&Value::Null) } else { to.get(field.name) };
        let Some(after) = after else { continue };
        walk(
            field,
            &format!("{path}.{}", field.name),
            from.get(field.name).unwrap_or(&Value::Null),
            after,
            beside,
            found,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::spec::How;
    use crate::resource::spec::Read;
    use serde_json::json;

    const IDLE: &[Risk] = &[Risk::WeakerLonger("times.idle", "times.unit")];

    static PART: Part = Part {
        name: "",
        read: Read::List,
        how: How::Overwrite,
        fields: &[
            Field::flag("sso").risks(&[Risk::WeakerOff, Risk::LocksOnWithout("auth")]),
            Field::flag("login").risks(&[Risk::LocksOffWithout("auth")]),
            Field::flag("late")
                .risks(&[Risk::LocksOnWithout("auth")])
                .relies(true, &["planned[].way", "other.way", "planned.way"]),
            Field::flag("disabled").risks(&[Risk::LocksOn]),
            Field::one_of("type", &["", "public"]).risks(&[Risk::WeakerAs("public")]),
            Field::one_of("client", &["", "known", "public"]).risks(&[Risk::WeakerChanged("public")]),
            Field::flag("unsigned").risks(&[Risk::WeakerOn]),
            Field::flag("enabled").risks(&[Risk::LocksOff]),
            Field::set("exceptions").risks(&[Risk::WeakerMore]),
            Field::one_of("way", &["none", "saml"]).risks(&[
                Risk::WeakerEmpty,
                Risk::LocksEmptyWithout("words.enabled"),
                Risk::LocksEmptyWhile("must"),
            ]),
            Field::text("reply").risks(&[Risk::LocksEmpty]),
            Field::set("urls").risks(&[Risk::WeakerWildcard, Risk::LocksHalved]),
            Field::set("ips").risks(&[Risk::WeakerEmpty]),
            Field::object(
                "rules",
                &[
                    Field::integer("least", 0, 99).risks(&[Risk::WeakerBelow]),
                    Field::integer("tries", 0, 99).risks(&[Risk::WeakerAbove]),
                ],
            ),
            Field::items(
                "items",
                &["id"],
                &[
                    Field::text("id"),
                    Field::text("saml").risks(&[Risk::WeakerEmpty]),
                    Field::flag("unseen").never_returned().risks(&[Risk::WeakerOff]),
                ],
            ),
            Field::flag("unseen").maybe_returned().risks(&[Risk::WeakerOff]),
            Field::flag("unknown").maybe_returned().risks(&[Risk::WeakerOff]),
            Field::object(
                "times",
                &[Field::integer("idle", 0, 99).risks(IDLE), Field::one_of("unit", &["minutes", "hours"]).risks(IDLE)],
            ),
        ],
    };

    fn met(live: &Value, declared: &Value) -> Vec<String> {
        let document = |value: &Value| value.as_object().cloned().unwrap();
        let live = live.as_object().map(|_| document(live));
        let before =
            |path: &str, _: &Field| (path == "unseen" || path == "items[u].unseen").then_some(Value::Bool(true));
        let is_planned = |field: &str| field == "planned";
        let found = risks(&[&PART], &document(declared), live.as_ref(), &is_planned, &before);
        found.into_iter().map(|(harm, what)| format!("{harm:?}: {what}")).collect()
    }

    #[test]
    fn each_risk_is_met_by_what_is_bad_and_by_nothing_else() {
        let cases: &[(Value, Value, &[&str])] = &[
            (json!({ "sso": true }), json!({ "sso": false }), &["Weakening: sso is turned off"]),
            (json!({ "sso": true }), json!({ "sso": null }), &["Weakening: sso is turned off"]),
            (json!({ "sso": true }), json!({}), &[]),
            (
                json!({ "sso": false }),
                json!({ "sso": true, "auth": "saml" }),
                &["Lockout: sso is turned on, and auth says that there is none to use"],
            ),
            (
                json!({ "auth": "none" }),
                json!({ "sso": true }),
                &["Lockout: sso is turned on, and auth says that there is none to use"],
            ),
            (json!({ "auth": "saml" }), json!({ "sso": true }), &[]),
            (
                json!({ "login": true }),
                json!({ "login": false }),
                &["Lockout: login is turned off, and auth names no other way to log in"],
            ),
            (json!({ "login": true, "auth": "oidc" }), json!({ "login": false }), &[]),
            // What is written before it counts, and nothing else that the files say.
            (json!({}), json!({ "late": true, "planned": [{ "way": "saml" }] }), &[]),
            (json!({}), json!({ "late": true, "planned": { "way": "saml" } }), &[]),
            (
                json!({}),
                json!({ "late": true, "planned": [{ "way": "none" }] }),
                &["Lockout: late is turned on, and auth says that there is none to use"],
            ),
            (
                json!({}),
                json!({ "late": true, "other": { "way": "saml" } }),
                &["Lockout: late is turned on, and auth says that there is none to use"],
            ),
            (json!({}), json!({ "disabled": true }), &["Lockout: disabled is turned on"]),
            (json!({ "disabled": true }), json!({ "disabled": true }), &[]),
            (json!({ "disabled": true }), json!({ "disabled": false }), &[]),
            (json!({ "type": "" }), json!({ "type": "public" }), &["Weakening: type becomes public"]),
            (json!({ "type": "public" }), json!({ "type": "" }), &[]),
            (
                json!({ "urls": ["https://a/*"] }),
                json!({ "urls": ["https://a/*", "https://b/*"] }),
                &["Weakening: urls gains the wildcard https://b/*"],
            ),
            (
                json!({ "urls": ["a", "b", "c"] }),
                json!({ "urls": ["c", "d"] }),
                &["Lockout: 2 of 3 entries of urls go"],
            ),
            (json!({ "urls": ["a", "b"] }), json!({ "urls": ["b"] }), &[]),
            (json!({ "urls": ["a"] }), json!({ "urls": null }), &["Lockout: 1 of 1 entries of urls go"]),
            (json!({ "ips": ["a", "b"] }), json!({ "ips": [] }), &["Weakening: ips is emptied"]),
            (json!({ "ips": ["a", "b"] }), json!({ "ips": ["a"] }), &[]),
            (
                json!({ "rules": { "least": 12, "tries": 3 } }),
                json!({ "rules": { "least": 8 } }),
                &["Weakening: rules.least goes down from 12 to 8"],
            ),
            (
                json!({ "rules": { "least": 12, "tries": 3 } }),
                json!({ "rules": { "tries": 9 } }),
                &["Weakening: rules.tries goes up from 3 to 9"],
            ),
            (
                json!({ "rules": { "tries": 3 } }),
                json!({ "rules": { "tries": 0 } }),
                &["Weakening: rules.tries is no longer limited to 3"],
            ),
            (json!({ "rules": { "least": 1, "tries": 0 } }), json!({ "rules": { "least": 2, "tries": 5 } }), &[]),
            (
                json!({ "rules": { "least": 1, "tries": 3 } }),
                json!({ "rules": null }),
                &["Weakening: rules.least goes down from 1 to 0", "Weakening: rules.tries is no longer limited to 3"],
            ),
            (
                json!({ "items": [{ "id": "a", "saml": "x" }] }),
                json!({ "items": [] }),
                &["Weakening: items[a].saml is emptied"],
            ),
            (
                json!({ "items": [{ "id": "a", "saml": "x" }] }),
                json!({ "items": [{ "id": "a", "saml": null }] }),
                &["Weakening: items[a].saml is emptied"],
            ),
            (json!({ "items": [{ "id": "a", "saml": "x" }] }), json!({ "items": [{ "id": "a" }] }), &[]),
            (
                Value::Null,
                json!({ "disabled": true, "type": "public", "urls": ["*"], "sso": true }),
                &[
                    "Lockout: sso is turned on, and auth says that there is none to use",
                    "Lockout: disabled is turned on",
                    "Weakening: type becomes public",
                    "Weakening: urls gains the wildcard *",
                ],
            ),
            (Value::Null, json!({ "rules": { "least": 1 }, "ips": [], "login": false }), &[]),
        ];
        for (live, declared, expected) in cases {
            assert_eq!(met(live, declared), *expected, "{live} -> {declared}");
        }
    }

    #[test]
    fn what_no_answer_tells_is_what_was_sent_and_times_have_their_units() {
        let cases: &[(Value, Value, &[&str])] = &[
            // What no answer tells is what was sent last, and where an answer tells it that counts.
            (json!({ "auth": "saml" }), json!({ "unseen": false }), &["Weakening: unseen is turned off"]),
            (json!({ "unseen": false }), json!({ "unseen": false }), &[]),
            (json!({ "auth": "saml" }), json!({ "unseen": true, "unknown": false }), &[]),
            (Value::Null, json!({ "unseen": false }), &[]),
            (
                json!({ "items": [{ "id": "u" }, { "id": "b" }] }),
                json!({ "items": [{ "id": "u", "unseen": false }, { "id": "b", "unseen": false }] }),
                &["Weakening: items[u].unseen is turned off"],
            ),
            (
                json!({ "times": { "idle": 30, "unit": "minutes" } }),
                json!({ "times": { "idle": 1, "unit": "hours" } }),
                &["Weakening: times.idle goes up from 30 minutes to 1 hours"],
            ),
            (
                json!({ "times": { "idle": 30, "unit": "minutes" } }),
                json!({ "times": { "unit": "hours" } }),
                &["Weakening: times.idle goes up from 30 minutes to 30 hours"],
            ),
            (
                json!({ "times": { "idle": 2, "unit": "hours" } }),
                json!({ "times": { "idle": 90, "unit": "minutes" } }),
                &[],
            ),
            (json!({ "times": { "unit": "hours" } }), json!({ "times": { "idle": 90 } }), &[]),
        ];
        for (live, declared, expected) in cases {
            assert_eq!(met(live, declared), *expected, "{live} -> {declared}");
        }
    }

    #[test]
    fn switches_choices_and_exceptions_are_met_by_their_bad_side_alone() {
        let cases: &[(Value, Value, &[&str])] = &[
            (
                json!({ "urls": ["10.0.0.0/8"] }),
                json!({ "urls": ["10.0.0.0/8", "::/0"] }),
                &["Weakening: urls gains the wildcard ::/0"],
            ),
            (json!({ "client": "known" }), json!({ "client": "public" }), &["Weakening: client becomes public"]),
            (json!({ "client": "" }), json!({ "client": "public" }), &[]),
            (json!({}), json!({ "unsigned": true }), &["Weakening: unsigned is turned on"]),
            (json!({ "unsigned": true }), json!({ "unsigned": false }), &[]),
            (json!({ "enabled": true }), json!({ "enabled": false }), &["Lockout: enabled is turned off"]),
            (json!({ "exceptions": ["a"] }), json!({ "exceptions": ["a", "b"] }), &["Weakening: exceptions gains b"]),
            (json!({ "exceptions": ["a", "b"] }), json!({ "exceptions": ["b"] }), &[]),
            (json!({ "way": "saml" }), json!({ "way": "none" }), &["Weakening: way becomes none"]),
            (json!({ "way": "saml" }), json!({ "way": "" }), &["Weakening: way is emptied"]),
            (json!({}), json!({ "way": "none" }), &[]),
            (json!({ "way": "none", "words": { "enabled": false } }), json!({ "way": "" }), &[]),
            (
                json!({ "way": "saml", "words": { "enabled": false } }),
                json!({ "way": "none" }),
                &["Weakening: way becomes none", "Lockout: way was the way to log in, and words.enabled is off"],
            ),
            (
                json!({ "way": "saml", "words": { "enabled": true } }),
                json!({ "way": "none" }),
                &["Weakening: way becomes none"],
            ),
            // What the same commit makes of it counts.
            (
                json!({ "way": "saml", "words": { "enabled": true } }),
                json!({ "way": "none", "words": { "enabled": false } }),
                &["Weakening: way becomes none", "Lockout: way was the way to log in, and words.enabled is off"],
            ),
            (
                json!({ "way": "saml", "words": { "enabled": false } }),
                json!({ "way": "none", "words": { "enabled": true } }),
                &["Weakening: way becomes none"],
            ),
            (
                json!({ "way": "saml", "must": true }),
                json!({ "way": null }),
                &["Weakening: way is emptied", "Lockout: way was the way to log in, and must stays on"],
            ),
            (
                json!({ "way": "saml", "must": false }),
                json!({ "way": "none", "must": true }),
                &["Weakening: way becomes none", "Lockout: way was the way to log in, and must stays on"],
            ),
            (
                json!({ "way": "saml", "must": true }),
                json!({ "way": "none", "must": false }),
                &["Weakening: way becomes none"],
            ),
            (json!({ "way": "none", "must": true }), json!({ "way": "" }), &[]),
            (json!({ "reply": "a" }), json!({ "reply": "" }), &["Lockout: reply is emptied"]),
            (json!({ "reply": "a" }), json!({ "reply": "b" }), &[]),
        ];
        for (live, declared, expected) in cases {
            assert_eq!(met(live, declared), *expected, "{live} -> {declared}");
        }
    }

    /// Switches, numbers and choices of which somebody said that no change of them lowers protection or locks people out.
    /// Lifetimes of sessions and defaults of roles are among them: longer or more is a choice, no rule that is given up.
    const HARMLESS: &[&str] = &[
        "userAttributes.type",
        "ssoApplicationAttributes.type",
        "tenantAttributes.type",
        "accessKeyAttributes.type",
        "roles.default",
        "roles.private",
        "lists.type",
        "jwtTemplates.authSchema",
        "jwtTemplates.type",
        "jwtTemplates.conformanceIssuer",
        "jwtTemplates.autoDCT",
        "jwtTemplates.emptyClaimPolicy",
        "jwtTemplates.overrideSubject",
        "jwtTemplates.omitCustomClaimsFromDSR",
        "jwtTemplates.addJti",
        "jwtTemplates.excludePermissions",
        "ssoApplications.type",
        "ssoApplications.defaultAudience",
        "ssoApplications.useMetadataInfo",
        "ssoApplications.subjectNameIdType",
        "tenants.roleInheritance",
        "tenants.settings.enabled",
        "tenants.settings.ssoSetupSuiteSettings.enabled",
        "tenants.settings.ssoSetupSuiteSettings.disabledFeatures.saml",
        "tenants.settings.ssoSetupSuiteSettings.disabledFeatures.oidc",
        "tenants.settings.ssoSetupSuiteSettings.disabledFeatures.scim",
        "tenants.settings.ssoSetupSuiteSettings.disabledFeatures.ssoDomains",
        "tenants.settings.ssoSetupSuiteSettings.disabledFeatures.groupMapping",
        "tenants.sso.saml.authenticationOnly",
        "tenants.sso.oidc.manageProviderTokens",
        "tenants.sso.oidc.authenticationOnly",
        "inboundApps.permissionsScopes.optional",
        "inboundApps.scopeClaimMapping.useProjectMapping",
        "inboundApps.scopeClaimMapping.mandatory",
        "inboundApps.defaultAudience",
        "outboundApps.appType",
        "outboundApps.accessType",
        "outboundApps.useDcr",
        "accessKeys.expireTime",
    ];

    #[allow(clippy::wildcard_enum_match_arm, reason = "no other shape holds a field")]
    fn undecided(path: &str, fields: &[Field], found: &mut Vec<String>) {
        fn inside(path: &str, field: &Field, shape: Shape, found: &mut Vec<String>) {
            match shape {
                Shape::Flag | Shape::Integer(..) | Shape::OneOf(_) if field.risks.is_empty() => {
                    found.push(path.to_owned());
                }
                Shape::Object(fields) | Shape::Items { fields, .. } => undecided(path, fields, found),
                Shape::List(shape) | Shape::Map(shape) => inside(path, field, *shape, found),
                _ => {}
            }
        }
        for field in fields.iter().filter(|field| field.back != Back::Computed) {
            inside(&format!("{path}.{}", field.name), field, field.shape, found);
        }
    }

    #[test]
    fn of_every_switch_number_and_choice_somebody_said_what_a_change_of_it_risks() {
        let mut found = Vec::new();
        for kind in crate::resource::ALL {
            kind.spec().parts.iter().for_each(|part| undecided(kind.name(), part.fields, &mut found));
        }
        assert_eq!(found, HARMLESS);
    }

    /// Fields that hold a place to which people or tokens go, or from which they may come. A wildcard in one opens it to many.
    fn is_a_place(name: &str) -> bool {
        let name = name.to_lowercase();
        let parts = ["redirect", "callback", "domain", "origin", "acsurl", "replyurl", "loginpageurl", "logouturl"];
        parts.iter().any(|part| name.contains(part)) || name.ends_with("ips")
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "no other shape holds a field or a text")]
    fn unwatched(path: &str, fields: &[Field], found: &mut Vec<String>) {
        for field in fields.iter().filter(|field| field.back != Back::Computed) {
            let path = format!("{path}.{}", field.name);
            match field.shape {
                Shape::Object(fields) | Shape::Items { fields, .. } => unwatched(&path, fields, found),
                Shape::List(&Shape::Object(fields)) | Shape::Map(&Shape::Object(fields)) => {
                    unwatched(&path, fields, found);
                }
                Shape::Text | Shape::Name | Shape::Set
                    if is_a_place(field.name) && !field.risks.contains(&Risk::WeakerWildcard) =>
                {
                    found.push(path);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn a_wildcard_in_whatever_holds_a_place_is_seen() {
        let mut found = Vec::new();
        for kind in crate::resource::ALL {
            kind.spec().parts.iter().for_each(|part| unwatched(kind.name(), part.fields, &mut found));
        }
        assert_eq!(found, Vec::<String>::new());
    }
}
