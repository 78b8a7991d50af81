//! One file of YAML against the field tables: every error of every resource at once.

#![allow(clippy::wildcard_enum_match_arm, reason = "a value of any other sort is wrong in the same way")]

use crate::desired::Declared;
use crate::desired::Finding;
use crate::desired::Findings;
use crate::desired::Place;
use crate::desired::findings::bounded;
use crate::desired::secrets::Fence;
use crate::desired::secrets::Reference;
use crate::desired::yaml;
use crate::desired::yaml::Entry;
use crate::desired::yaml::Node;
use crate::desired::yaml::Value;
use crate::desired::yaml::shown;
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Rule;
use crate::resource::Shape;
use serde_json::Number;
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Kinds of the format that this version cannot manage yet: silence would look like success.
const NOT_YET: &[&str] = &[
    "flows",
    "theme",
    "fgaSchema",
    "ssoApplications",
    "inboundApps",
    "jwtTemplates",
    "lists",
    "accessKeys",
    "outboundApps",
    "userAttributes",
    "tenantAttributes",
    "accessKeyAttributes",
    "ssoApplicationAttributes",
    "passwordSettings",
    "project",
    "scopeClaimMapping",
];

// No field's name is longer, so what is has none that is near.
const LONGEST_FIELD: usize = 64;

const PROTECTED: &str = "protected";
const RENAMED_FROM: &str = "renamedFrom";
const CASCADE_DELETE: &str = "cascadeDelete";

/// What one file declares.
#[derive(Debug, Default, PartialEq)]
pub struct FileReport {
    /// Kinds that the file mentions.
    pub kinds: BTreeSet<&'static str>,
    /// Every resource whose identity could be read, in the order of the file.
    pub resources: Vec<Arc<Declared>>,
    /// What is wrong.
    pub errors: Findings,
    /// What is remarkable.
    pub warnings: Findings,
}

/// Checks files. Holds what all files share.
#[derive(Clone, Copy)]
pub struct Checker<'a> {
    /// The kinds that may be declared.
    pub kinds: &'a [&'static dyn Kind],
    /// What may be referred to.
    pub fence: &'a Fence,
}

impl Checker<'_> {
    /// Reads one file. `file` is its path below the source's root.
    pub fn check(&self, file: &Arc<str>, text: &str) -> FileReport {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let unix = text.contains("\r\n").then(|| text.replace("\r\n", "\n"));
        let text = unix.as_deref().unwrap_or(text);
        let mut pen = Pen { file, report: FileReport::default(), resource: String::new() };
        if text.trim().is_empty() {
            pen.error(0, "", "is empty; if it shall declare nothing, remove it or leave a comment in it");
            return pen.report;
        }
        let (documents, faults) = yaml::parse(text);
        pen.report.errors.add_uncounted(faults.more);
        for fault in faults.kept {
            pen.error(fault.line, "", fault.message);
        }
        for document in documents {
            self.document(&mut pen, document);
        }
        pen.report.errors.settle();
        pen.report.warnings.settle();
        pen.report
    }

    fn document(&self, pen: &mut Pen<'_>, document: Node) {
        let entries = match document.value {
            Value::Null => return,
            Value::Map(entries) => entries,
            other => {
                let message = format!("a document must map kinds to lists (`roles:`) but is {}", other.sort());
                return pen.error(document.line, "", message);
            }
        };
        for entry in entries {
            self.top_level(pen, entry);
        }
    }

    fn top_level(&self, pen: &mut Pen<'_>, entry: Entry) {
        let Entry { key, line, node } = entry;
        if key == "version" {
            if node.value != Value::Number(1.into()) {
                pen.error(line, "version", "must be 1, the only version of this format");
            }
            return;
        }
        if key.starts_with("x-") {
            return; // for anchors, as in compose files
        }
        let Some(kind) = self.kinds.iter().copied().find(|kind| kind.name() == key) else {
            if NOT_YET.contains(&key.as_str()) {
                return pen.error(line, "", format!("{key}: this version does not manage this kind yet; take it out"));
            }
            let known = self.kinds.iter().map(|kind| kind.name()).chain(NOT_YET.iter().copied());
            let message = format!("{} is not a kind of resource{}", shown(&key), did_you_mean(&key, known));
            return pen.error(line, "", message);
        };
        pen.report.kinds.insert(kind.name());
        let items = match node.value {
            Value::List(items) => items,
            Value::Faulty => return,
            Value::Null => {
                let message = format!(
                    "{key}: has nothing after it; write `{key}: []` to declare that there are none, or take the line out"
                );
                return pen.error(line, "", message);
            }
            other => {
                let message = format!("{key}: must be a list, each item beginning with `- `, but is {}", other.sort());
                return pen.error(line, "", message);
            }
        };
        for item in items {
            self.resource(pen, kind, item);
        }
    }

    fn resource(&self, pen: &mut Pen<'_>, kind: &'static dyn Kind, item: Node) {
        let line = item.line;
        kind.name().clone_into(&mut pen.resource);
        let entries = match item.value {
            Value::Map(entries) => entries,
            Value::Faulty => return pen.resource.clear(),
            other => {
                let message = format!("must be a mapping of fields but is {}", other.sort());
                pen.error(line, "", message);
                return pen.resource.clear();
            }
        };
        let key = identity(kind, &entries);
        if let Ok(key) = &key {
            pen.resource = bounded(key.to_string());
        }
        let mut declared = Declared {
            key: key.as_ref().map_or_else(|_| Key::new(kind.name(), ""), Key::clone),
            fields: serde_json::Map::new(),
            protected: None,
            renamed_from: None,
            cascade_delete: None,
            place: Place { file: Arc::clone(pen.file), line },
        };
        if let Err(Missing { line: at, field, message }) = &key {
            pen.error(at.unwrap_or(line), field, message.clone());
        }
        let required = kind.fields().iter().filter(|field| field.rule == Rule::Required);
        for field in required.filter(|field| !entries.iter().any(|entry| entry.key == field.name)) {
            pen.error(line, field.name, "is missing; the API refuses to create one without it");
        }
        for entry in entries {
            self.field(pen, kind, &mut declared, entry);
        }
        if key.is_ok() {
            pen.report.resources.push(Arc::new(declared));
        }
        pen.resource.clear();
    }

    fn field(&self, pen: &mut Pen<'_>, kind: &'static dyn Kind, declared: &mut Declared, entry: Entry) {
        let Entry { key, line, node } = entry;
        if node.value == Value::Faulty {
            return;
        }
        if let Some(field) = kind.fields().iter().find(|field| field.name == key) {
            if matches!(field.rule, Rule::Identity | Rule::Tenant) {
                // `identity` has read them, and a reference in their place is still to be refused.
                if reference_of(&node).is_some() {
                    self.refuse_reference(pen, field.name, &node);
                }
                return;
            }
            if let Some(value) = self.value(pen, field, line, node) {
                declared.fields.insert(key, value);
            }
            return;
        }
        match key.as_str() {
            PROTECTED => declared.protected = pen.flag(line, PROTECTED, &node),
            CASCADE_DELETE if kind.has_cascade() => declared.cascade_delete = pen.flag(line, CASCADE_DELETE, &node),
            RENAMED_FROM if kind.has_rename() => match node.value {
                Value::Text(old) if old.is_empty() => {
                    pen.error(line, RENAMED_FROM, "is empty; write the old name, or take the line out");
                }
                Value::Text(old) if *old == *declared.key.name => {
                    pen.error(line, RENAMED_FROM, "is the name that the resource has now; write the old name");
                }
                Value::Text(old) => declared.renamed_from = Some(old.into()),
                other => pen.error(line, RENAMED_FROM, must_be("a text", &other)),
            },
            RENAMED_FROM => pen.error(line, RENAMED_FROM, format!("{} cannot be renamed", kind.name())),
            CASCADE_DELETE => pen.error(line, CASCADE_DELETE, format!("{} have no cascading delete", kind.name())),
            _ => {
                if reference_of(&node).is_some() {
                    self.refuse_reference(pen, &short(&key), &node);
                }
                let known = kind.fields().iter().map(|field| field.name).chain([PROTECTED]);
                let known = known.chain(kind.has_rename().then_some(RENAMED_FROM));
                let known = known.chain(kind.has_cascade().then_some(CASCADE_DELETE));
                let message = format!("{} have no such field{}", kind.name(), did_you_mean(&key, known));
                pen.error(line, &short(&key), message);
            }
        }
    }

    /// The canonical value, or `None` where it is wrong and was reported.
    fn value(&self, pen: &mut Pen<'_>, field: &Field, line: u32, node: Node) -> Option<Json> {
        let name = field.name;
        if node.value == Value::Null {
            if field.rule == Rule::Required || field.shape == Shape::Name {
                pen.error(line, name, "is null but must be a text");
                return None;
            }
            return Some(Json::Null);
        }
        if self.refuse_reference_in(pen, field, &node) {
            return None;
        }
        let wrong = match (field.shape, node.value) {
            (Shape::Text, Value::Text(text)) => return Some(Json::String(text)),
            (Shape::Name, Value::Text(text)) if !text.is_empty() => return Some(Json::String(text)),
            (Shape::Name, Value::Text(_)) => "is empty".to_owned(),
            (Shape::Flag, Value::Flag(flag)) => return Some(Json::Bool(flag)),
            (Shape::OneOf(allowed), Value::Text(text)) => {
                if allowed.contains(&text.as_str()) {
                    return Some(Json::String(text));
                }
                let names: Vec<String> = allowed.iter().map(|name| format!("\"{name}\"")).collect();
                let hint = did_you_mean(&text, allowed.iter().copied());
                format!("must be one of {}{hint}", names.join(", "))
            }
            (Shape::Set, Value::List(items)) => return set(pen, name, items),
            (Shape::Attributes, Value::Map(entries)) => return attributes(pen, name, line, entries),
            (Shape::Text | Shape::Name | Shape::OneOf(_), other) => must_be("a text", &other),
            (Shape::Flag, other) => must_be("true or false", &other),
            (Shape::Set, Value::Text(_)) => {
                "must be a list of texts but is a text; put it in brackets: [ ... ]".to_owned()
            }
            (Shape::Set, other) => must_be("a list of texts", &other),
            (Shape::Attributes, other) => must_be("a mapping of attribute names to values", &other),
        };
        pen.error(line, name, wrong);
        None
    }

    fn refuse_reference_in(&self, pen: &mut Pen<'_>, field: &Field, node: &Node) -> bool {
        if field.shape == Shape::Attributes {
            // `{ env: production }` is a fair set of attributes; only the daemon's own credentials are not.
            if reference_of(node).is_some_and(|r| self.fence.check(&r) == Err(super::secrets::Refusal::Own)) {
                self.refuse_reference(pen, field.name, node);
                return true;
            }
            let Value::Map(entries) = &node.value else { return false };
            let references = entries.iter().filter(|entry| reference_of(&entry.node).is_some());
            let mut found = false;
            for entry in references {
                found = true;
                self.refuse_reference(pen, &format!("{}.{}", field.name, entry.key), &entry.node);
            }
            return found;
        }
        let is_reference = reference_of(node).is_some();
        if is_reference {
            self.refuse_reference(pen, field.name, node);
        }
        is_reference
    }

    /// The fence speaks first: what it forbids is worth more to know than that the field takes no secret.
    fn refuse_reference(&self, pen: &mut Pen<'_>, field: &str, node: &Node) {
        let Some(reference) = reference_of(node) else { return };
        let message = match self.fence.check(&reference) {
            Err(refusal) => refusal.to_string(),
            Ok(()) => "takes no secret; write the value itself".to_owned(),
        };
        pen.error(node.line, field, message);
    }
}

/// `{ env: NAME }` or `{ file: PATH }`.
fn reference_of(node: &Node) -> Option<Reference> {
    let Value::Map(entries) = &node.value else { return None };
    let [Entry { key, node: Node { value: Value::Text(text), .. }, .. }] = entries.as_slice() else { return None };
    match key.as_str() {
        "env" => Some(Reference::Env(text.clone())),
        "file" => Some(Reference::File(text.clone())),
        _ => None,
    }
}

fn set(pen: &mut Pen<'_>, field: &str, items: Vec<Node>) -> Option<Json> {
    let mut texts = BTreeSet::new();
    let mut is_right = true;
    for item in items {
        match item.value {
            Value::Text(text) if !text.is_empty() => drop(texts.insert(text)),
            Value::Faulty => is_right = false,
            Value::Text(_) => {
                pen.error(item.line, field, "an item of the list is empty");
                is_right = false;
            }
            other => {
                pen.error(item.line, field, format!("every item of the list {}", must_be("a text", &other)));
                is_right = false;
            }
        }
    }
    is_right.then(|| Json::Array(texts.into_iter().map(Json::String).collect()))
}

fn attributes(pen: &mut Pen<'_>, field: &str, line: u32, entries: Vec<Entry>) -> Option<Json> {
    if entries.is_empty() {
        pen.warning(line, field, "manages nothing: attributes are managed one by one; `null` clears all of them");
    }
    let mut values = serde_json::Map::new();
    let mut is_right = true;
    for Entry { key, line, node } in entries {
        let path = format!("{field}.{key}");
        let value = match node.value {
            Value::Null => Json::Null,
            Value::Flag(flag) => Json::Bool(flag),
            Value::Number(number) => Json::Number(canonical(number)),
            Value::Text(text) => Json::String(text),
            Value::List(items) => {
                let mut texts = Vec::with_capacity(items.len());
                for item in items {
                    match item.value {
                        Value::Text(text) => texts.push(Json::String(text)),
                        Value::Faulty => is_right = false,
                        other => {
                            pen.error(
                                item.line,
                                &path,
                                format!("every item of the list {}", must_be("a text", &other)),
                            );
                            is_right = false;
                        }
                    }
                }
                Json::Array(texts)
            }
            Value::Map(_) => {
                pen.error(line, &path, "must be a text, a number, a boolean or a list of texts but is a mapping");
                is_right = false;
                continue;
            }
            Value::Faulty => {
                is_right = false;
                continue;
            }
        };
        if key.is_empty() {
            pen.error(line, field, "an attribute has an empty name");
            is_right = false;
        }
        values.insert(key, value);
    }
    is_right.then_some(Json::Object(values))
}

/// `1.0` and `1` are one number to JSON, and Descope answers with the shorter one.
fn canonical(number: Number) -> Number {
    // Up to here a float holds every integer.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < EXACT => {
            #[allow(clippy::cast_possible_truncation, reason = "it is whole and within the bounds of i64")]
            let whole = float as i64;
            whole.into()
        }
        _ => number,
    }
}

/// A key that nobody expected, as the field of a finding.
fn short(key: &str) -> String {
    key.chars().take(80).collect()
}

/// Never quotes the value: it might be a secret in the wrong place.
fn must_be(what: &str, got: &Value) -> String {
    let remedy = match got {
        Value::Flag(_) | Value::Number(_) if what == "a text" => "; put it in quotes",
        Value::Text(_) if what == "true or false" => "; write it without quotes",
        _ => "",
    };
    format!("must be {what} but is {}{remedy}", got.sort())
}

struct Missing {
    line: Option<u32>,
    field: &'static str,
    message: String,
}

fn identity(kind: &'static dyn Kind, entries: &[Entry]) -> Result<Key, Missing> {
    let mut key = Key::new(kind.name(), "");
    for field in kind.fields() {
        let entry = entries.iter().find(|entry| entry.key == field.name);
        let missing = |message: String| Missing { line: entry.map(|entry| entry.line), field: field.name, message };
        match (field.rule, entry.map(|entry| &entry.node.value)) {
            (Rule::Identity, Some(Value::Text(text))) if !text.is_empty() => key.name = text.as_str().into(),
            (Rule::Identity, Some(Value::Text(_))) => {
                return Err(missing("is empty; it identifies the resource".into()));
            }
            (Rule::Identity, None | Some(Value::Null)) => {
                return Err(missing("is missing; it identifies the resource".into()));
            }
            (Rule::Tenant, Some(Value::Text(text))) if !text.is_empty() => key.tenant = Some(text.as_str().into()),
            (Rule::Tenant, None | Some(Value::Null | Value::Text(_))) => {}
            (Rule::Identity | Rule::Tenant, Some(other)) => return Err(missing(must_be("a text", other))),
            _ => {}
        }
    }
    Ok(key)
}

/// `; did you mean X?`, or nothing.
fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    if word.len() > LONGEST_FIELD {
        return String::new();
    }
    let lower = word.to_lowercase();
    let distance = |candidate: &str| strsim::osa_distance(&lower, &candidate.to_lowercase());
    let near = known.filter(|candidate| !candidate.is_empty()).map(|candidate| (distance(candidate), candidate)).min();
    match near {
        // A third of the word wrong is a typo; more is another word.
        Some((distance, candidate)) if distance <= (word.chars().count() / 3).max(1) => {
            format!("; did you mean `{candidate}`?")
        }
        _ => String::new(),
    }
}

/// Writes findings about one file.
struct Pen<'a> {
    file: &'a Arc<str>,
    report: FileReport,
    /// Whom the findings are about.
    resource: String,
}

impl Pen<'_> {
    fn finding(&self, line: u32, field: &str, message: String) -> Finding {
        let place = Place { file: Arc::clone(self.file), line };
        Finding { place, resource: self.resource.clone(), field: field.to_owned(), message }
    }

    fn error(&mut self, line: u32, field: &str, message: impl Into<String>) {
        let finding = self.finding(line, field, message.into());
        self.report.errors.push(finding);
    }

    fn warning(&mut self, line: u32, field: &str, message: impl Into<String>) {
        let finding = self.finding(line, field, message.into());
        self.report.warnings.push(finding);
    }

    fn flag(&mut self, line: u32, field: &str, node: &Node) -> Option<bool> {
        if let Value::Flag(flag) = node.value {
            return Some(flag);
        }
        self.error(line, field, must_be("true or false", &node.value));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::testing::KINDS;
    use globset::Glob;
    use globset::GlobSetBuilder;
    use serde_json::json;

    fn report(text: &str) -> FileReport {
        let env = GlobSetBuilder::new().add(Glob::new("*").unwrap()).build().unwrap();
        let fence = Fence { env, own_env: vec!["PROD_KEY".to_owned()], ..Fence::default() };
        Checker { kinds: KINDS, fence: &fence }.check(&"a.yaml".into(), text)
    }

    fn lines(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_supported_statement_is_read_into_its_canonical_form() {
        let report = report(
            "version: 1
permissions:
  - name: doc.read # a comment
    description: \"\"
roles:
  - name: Editor
    permissionNames: [b, a, b]
    default: true
    renamedFrom: Writer
  - {tenantId: no, name: no, description: null}
  - {tenantId: '', name: Viewer}
---
tenants:
  - id: acme
    name: Acme
    customAttributes: {tier: gold, seats: 3.0, ratio: 0.5, paid: true, tags: [y, x], gone: null, env: production}
    roleInheritance: userOnly
    protected: true
    cascadeDelete: false
    defaultRoles: []
",
        );

        assert_eq!(lines(&report.errors), Vec::<String>::new());
        assert_eq!(lines(&report.warnings), Vec::<String>::new());
        assert_eq!(report.kinds, BTreeSet::from(["permissions", "roles", "tenants"]));
        let found: Vec<_> = report.resources.iter().map(|r| (r.key.to_string(), r.place.line)).collect();
        let expected = [("permissions/doc.read", 3), ("roles/Editor", 6), ("roles/no/no", 10), ("roles/Viewer", 11)];
        let expected = expected.into_iter().chain([("tenants/acme", 14)]);
        assert_eq!(found, expected.map(|(key, line)| (key.to_owned(), line)).collect::<Vec<_>>());
        let fields: Vec<_> = report.resources.iter().map(|r| Json::Object(r.fields.clone())).collect();
        assert_eq!(fields[0], json!({ "description": "" }));
        assert_eq!(fields[1], json!({ "permissionNames": ["a", "b"], "default": true }));
        assert_eq!(fields[2], json!({ "description": null }));
        assert_eq!(fields[3], json!({}));
        let attributes = json!({
            "tier": "gold", "seats": 3, "ratio": 0.5, "paid": true, "tags": ["y", "x"], "gone": null,
            "env": "production"
        });
        let acme = json!({ "name": "Acme", "customAttributes": attributes, "roleInheritance": "userOnly",
            "defaultRoles": [] });
        assert_eq!(fields[4], acme);
        assert_eq!(report.resources[1].renamed_from.as_deref(), Some("Writer"));
        assert_eq!((report.resources[4].protected, report.resources[4].cascade_delete), (Some(true), Some(false)));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_a_remedy() {
        for (text, expected) in [
            ("", vec!["a.yaml: is empty; if it shall declare nothing, remove it or leave a comment in it"]),
            (" \n\r\n", vec!["a.yaml: is empty; if it shall declare nothing, remove it or leave a comment in it"]),
            ("# nothing\n", vec![]),
            ("---\n", vec![]),
            ("- a\n", vec!["a.yaml:1: a document must map kinds to lists (`roles:`) but is a list"]),
            ("version: 2\n", vec!["a.yaml:1: version: must be 1, the only version of this format"]),
            ("role: []\n", vec!["a.yaml:1: `role` is not a kind of resource; did you mean `roles`?"]),
            ("x: []\n", vec!["a.yaml:1: `x` is not a kind of resource"]),
            ("flows: []\n", vec!["a.yaml:1: flows: this version does not manage this kind yet; take it out"]),
            (
                "roles:\n",
                vec![
                    "a.yaml:1: roles: has nothing after it; write `roles: []` to declare that there are none, \
                 or take the line out",
                ],
            ),
            ("roles: []\n", vec![]),
            (
                "roles: {name: a}\n",
                vec!["a.yaml:1: roles: must be a list, each item beginning with `- `, but is a mapping"],
            ),
            ("roles: []\nroles: []\n", vec!["a.yaml:2: the key `roles` stands here twice, first on line 1; keep one"]),
            ("roles:\n  - Editor\n", vec!["a.yaml:2: roles: must be a mapping of fields but is a text"]),
            ("roles:\n  -\n", vec!["a.yaml:2: roles: must be a mapping of fields but is null"]),
            ("roles:\n  - description: x\n", vec!["a.yaml:2: roles: name: is missing; it identifies the resource"]),
            (
                "roles:\n  - description: x\n    name: ''\n",
                vec!["a.yaml:3: roles: name: is empty; it identifies the resource"],
            ),
            ("roles:\n  - name: 12\n", vec!["a.yaml:2: roles: name: must be a text but is a number; put it in quotes"]),
            (
                "roles:\n  - name: a\n    tenantId: 12\n",
                vec!["a.yaml:3: roles: tenantId: must be a text but is a number; put it in quotes"],
            ),
            (
                "roles:\n  - name: a\n    permisionNames: []\n",
                vec!["a.yaml:3: roles/a: permisionNames: roles have no such field; did you mean `permissionNames`?"],
            ),
            (
                "roles:\n  - name: a\n    permissionNames: hunter2\n    default: 'hunter2'\n    private: 1\n",
                vec![
                    "a.yaml:3: roles/a: permissionNames: must be a list of texts but is a text; put it in brackets: [ ... ]",
                    "a.yaml:4: roles/a: default: must be true or false but is a text; write it without quotes",
                    "a.yaml:5: roles/a: private: must be true or false but is a number",
                ],
            ),
            (
                "roles:\n  - name: a\n    permissionNames:\n      - 1\n      - ''\n",
                vec![
                    "a.yaml:4: roles/a: permissionNames: every item of the list must be a text but is a number; \
                 put it in quotes",
                    "a.yaml:5: roles/a: permissionNames: an item of the list is empty",
                ],
            ),
            (
                "tenants:\n  - id: a\n",
                vec!["a.yaml:2: tenants/a: name: is missing; the API refuses to create one without it"],
            ),
            ("tenants:\n  - id: a\n    name:\n", vec!["a.yaml:3: tenants/a: name: is null but must be a text"]),
            ("tenants:\n  - {id: a, name: ''}\n", vec!["a.yaml:2: tenants/a: name: is empty"]),
            (
                "tenants:\n  - {id: a, name: A, roleInheritance: useronly}\n",
                vec![
                    "a.yaml:2: tenants/a: roleInheritance: must be one of \"\", \"none\", \"userOnly\"; \
                 did you mean `userOnly`?",
                ],
            ),
            (
                "tenants:\n  - {id: a, name: A, customAttributes: {b: {c: d}, e: [1]}}\n",
                vec![
                    "a.yaml:2: tenants/a: customAttributes.b: must be a text, a number, a boolean or a list of texts \
                 but is a mapping",
                    "a.yaml:2: tenants/a: customAttributes.e: every item of the list must be a text but is a number; \
                 put it in quotes",
                ],
            ),
            (
                "tenants:\n  - {id: a, name: A, renamedFrom: b}\n",
                vec!["a.yaml:2: tenants/a: renamedFrom: tenants cannot be renamed"],
            ),
            (
                "roles:\n  - {name: a, renamedFrom: a}\n",
                vec!["a.yaml:2: roles/a: renamedFrom: is the name that the resource has now; write the old name"],
            ),
            (
                "roles:\n  - {name: a, cascadeDelete: true, protected: yes}\n",
                vec![
                    "a.yaml:2: roles/a: cascadeDelete: roles have no cascading delete",
                    "a.yaml:2: roles/a: protected: must be true or false but is a text; write it without quotes",
                ],
            ),
            (
                "tenants:\n  - {id: a, name: A, cascadeDelete: }\n",
                vec!["a.yaml:2: tenants/a: cascadeDelete: must be true or false but is null"],
            ),
        ] {
            assert_eq!(lines(&report(text).errors), expected, "{text}");
        }
    }

    #[test]
    fn a_reference_to_a_secret_meets_the_fence_before_anything_else() {
        let own = "refers to a credential of the daemon itself, which the config repo may never use";
        for (value, expected) in [
            ("description: {env: DESCOPE_MANAGEMENT_KEY}", format!("roles/a: description: {own}")),
            ("name: {env: PROD_KEY}", format!("roles: name: {own}")),
            ("tenantId: {env: PROD_KEY}", format!("roles: tenantId: {own}")),
            ("secret: {env: DESCOPE_GITOPS_TOKEN}", format!("roles/a: secret: {own}")),
            ("description: {env: HOME}", "roles/a: description: takes no secret; write the value itself".to_owned()),
            (
                "description: {file: /proc/self/environ}",
                "roles/a: description: files are not allowed here; the project's `secrets.dir` must name the \
                 directory they are in"
                    .to_owned(),
            ),
        ] {
            let text = if value.starts_with("name") {
                format!("roles:\n  - {value}\n")
            } else {
                format!("roles:\n  - name: a\n    {value}\n")
            };
            let found = lines(&report(&text).errors);

            assert!(found.iter().any(|line| line.ends_with(&expected)), "{expected} not in {found:?}");
        }
        let attributes = "tenants:\n  - {id: a, name: A, customAttributes: {key: {env: PROD_KEY}}}\n";
        assert_eq!(lines(&report(attributes).errors), [format!("a.yaml:2: tenants/a: customAttributes.key: {own}")]);
        let whole = "tenants:\n  - {id: a, name: A, customAttributes: {env: PROD_KEY}}\n";
        assert_eq!(lines(&report(whole).errors), [format!("a.yaml:2: tenants/a: customAttributes: {own}")]);
    }

    #[test]
    fn no_message_repeats_a_value() {
        let text = "roles:
  - name: a
    description: [hunter2]
    permissionNames: {hunter2: hunter2}
    default: hunter2
    private: [hunter2]
tenants:
  - {id: b, name: {x: hunter2}, customAttributes: hunter2, roleInheritance: hunter2, parent: [hunter2]}
  - &hunter2 [*hunter2]
permissions: \"hunter2
";
        for finding in report(text).errors.iter() {
            assert!(!finding.to_string().contains("hunter2"), "{finding}");
        }
    }

    #[test]
    fn bom_and_crlf_change_nothing_but_the_bytes() {
        let unix = "roles:\n  - name: a\n    description: |\n      one\n      two\n";
        let windows = format!("\u{feff}{}", unix.replace('\n', "\r\n"));

        assert_eq!(report(&windows), report(unix));
        assert_eq!(report(unix).resources[0].fields["description"], "one\ntwo\n");
    }

    #[test]
    fn an_empty_map_of_attributes_is_worth_a_warning() {
        let report = report("tenants:\n  - id: a\n    name: A\n    customAttributes: {}\n");

        assert_eq!(
            lines(&report.warnings),
            ["a.yaml:4: tenants/a: customAttributes: manages nothing: attributes are managed one by one; \
              `null` clears all of them"]
        );
        assert_eq!(report.resources[0].fields["customAttributes"], json!({}));
    }

    #[test]
    fn a_file_that_is_wrong_throughout_is_cut_short() {
        let text = format!("roles:\n{}", "  - 1\n".repeat(1500));

        let errors = report(&text).errors;

        assert_eq!((errors.len(), errors.count()), (300, 1500));
    }
}
