//! One file of YAML against the field tables: every error of every resource at once.

#![allow(clippy::wildcard_enum_match_arm, reason = "a value of any other sort is wrong in the same way")]

use crate::desired::Declared;
use crate::desired::Finding;
use crate::desired::Findings;
use crate::desired::Place;
use crate::desired::findings::bounded;
use crate::desired::remarks;
use crate::desired::remarks::Remarks;
use crate::desired::secret_file;
use crate::desired::secrets::Fence;
use crate::desired::secrets::Refusal;
use crate::desired::volume;
use crate::desired::volume::Volume;
use crate::desired::yaml;
use crate::desired::yaml::At;
use crate::desired::yaml::Entry;
use crate::desired::yaml::Node;
use crate::desired::yaml::Value;
use crate::desired::yaml::shown;
use crate::resource::Document;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Spec;
use crate::resource::Written;
use crate::resource::spec::Need;
use std::collections::BTreeSet;
use std::sync::Arc;

mod pen;
mod value;

use pen::About;
use pen::Pen;
use pen::did_you_mean;
use pen::must_be;
use pen::short;
use value::Reader;
use value::reference_of;

const PROTECTED: &str = "protected";
const RENAMED_FROM: &str = "renamedFrom";
const CASCADE_DELETE: &str = "cascadeDelete";
/// The directive that says where a secret is kept that Descope shows once.
pub const SECRET_FILE: &str = "secretFile";

/// A file that a field names in place of its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Of the resource, in the report.
    pub resource: usize,
    /// The field.
    pub field: &'static str,
    /// Where it stands.
    pub at: At,
    /// As it is written: relative to the file that names it.
    pub path: Arc<str>,
}

/// What one file declares.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FileReport {
    /// Kinds that the file mentions.
    pub kinds: BTreeSet<&'static str>,
    /// Every resource whose identity could be read, in the order of the file.
    pub resources: Vec<Arc<Declared>>,
    /// The files that they name. Until those are read, their paths stand in the place of what they hold.
    pub named: Vec<Named>,
    /// What is wrong.
    pub errors: Findings,
    /// What is remarkable.
    pub warnings: Findings,
    /// What more of it is, beside other files.
    pub remarks: Remarks,
}

impl FileReport {
    /// Puts the content of a file, which `file` names, in the place of its path; or says there why it cannot be.
    pub fn fill(&mut self, file: &Arc<str>, named: &Named, content: Result<String, String>) {
        let Some(declared) = self.resources.get(named.resource) else { return };
        let spec = crate::resource::kind(declared.key.kind).map(Kind::spec);
        let opaque = spec.and_then(|spec| spec.field(named.field)).and_then(|(_, field)| field.opaque());
        let Some(opaque) = opaque else { return };
        match content.and_then(|text| opaque.parse(&text)) {
            Ok(document) => {
                let others = declared.fields.iter().filter(|(name, _)| *name != named.field);
                let others = others.map(|(name, value)| (name, value.clone()));
                let fields = others.chain([(named.field, document)]).collect();
                self.resources[named.resource] = Arc::new(Declared { fields, ..Declared::clone(declared) });
            }
            Err(reason) => {
                let is_named = reason.contains(&*named.path);
                let message = if is_named { reason } else { format!("{} {reason}", named.path) };
                self.errors.push(Finding {
                    place: Place::new(file, named.at),
                    resource: bounded(declared.key.to_string()),
                    field: named.field.to_owned(),
                    message,
                });
            }
        }
    }
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
        let mut pen = Pen { file, report: FileReport::default(), about: About::Nobody };
        if text.trim().is_empty() {
            pen.error(At::default(), "", "is empty; if it shall declare nothing, remove it or leave a comment in it");
            return pen.report;
        }
        let (documents, faults) = yaml::parse(text);
        pen.report.errors.add_uncounted(faults.more);
        for fault in faults.kept {
            pen.error(fault.at, "", fault.message);
        }
        for document in documents {
            self.document(&mut pen, document);
        }
        pen.report.errors.settle();
        pen.report.warnings.settle();
        pen.report.remarks = remarks::of(self.kinds, &pen.report.resources);
        pen.report
    }

    fn document(&self, pen: &mut Pen<'_>, document: Node) {
        let entries = match document.value {
            Value::Null => return,
            Value::Map(entries) => entries,
            other => {
                let message = format!("a document must map kinds to lists (`roles:`) but is {}", other.sort());
                return pen.error(document.at, "", message);
            }
        };
        for entry in entries {
            self.top_level(pen, entry);
        }
    }

    fn top_level(&self, pen: &mut Pen<'_>, entry: Entry) {
        let Entry { key, at, node } = entry;
        if key == "version" {
            if node.value != Value::Number(1.into()) {
                pen.error(at, "version", "must be 1, the only version of this format");
            }
            return;
        }
        if key.starts_with("x-") {
            return; // for anchors, as in compose files
        }
        let Some(kind) = self.kinds.iter().copied().find(|kind| kind.name() == key) else {
            let known = self.kinds.iter().map(|kind| kind.name());
            let message = format!("{} is not a kind of resource{}", shown(&key), did_you_mean(&key, known));
            return pen.error(at, "", message);
        };
        pen.report.kinds.insert(kind.name());
        if kind.spec().identity.field.is_none() {
            return self.only(pen, kind, at, node);
        }
        let items = match node.value {
            Value::List(items) => items,
            Value::Faulty => return,
            Value::Null => {
                let message = format!(
                    "{key}: has nothing after it; write `{key}: []` to declare that there are none, or take the line out"
                );
                return pen.error(at, "", message);
            }
            other => {
                let message = format!("{key}: must be a list, each item beginning with `- `, but is {}", other.sort());
                return pen.error(at, "", message);
            }
        };
        for item in items {
            self.resource(pen, kind, item);
        }
    }

    fn resource(&self, pen: &mut Pen<'_>, kind: &'static dyn Kind, item: Node) {
        let at = item.at;
        pen.about = About::Kind(kind.name());
        let entries = match item.value {
            Value::Map(entries) => entries,
            Value::Faulty => return pen.about = About::Nobody,
            other => {
                let message = format!("must be a mapping of fields but is {}", other.sort());
                pen.error(at, "", message);
                return pen.about = About::Nobody;
            }
        };
        let key = identity(kind.spec(), &entries);
        if let Ok(key) = &key {
            pen.about = About::resource(key);
        }
        let named = key.as_ref().map_or_else(|_| Key::new(kind.name(), ""), Key::clone);
        let mut declared = Declared::new(named, Place::new(pen.file, at));
        if let Err(Missing { at: of_field, field, message }) = &key {
            pen.error(of_field.unwrap_or(at), field, message.clone());
        }
        let named = self.fields(pen, kind, &mut declared, entries);
        if key.is_ok() {
            pen.report.named.extend(named);
            pen.report.resources.push(Arc::new(declared));
        }
        pen.about = About::Nobody;
    }

    /// A kind of which there is one in every project.
    fn only(&self, pen: &mut Pen<'_>, kind: &'static dyn Kind, at: At, node: Node) {
        let spec = kind.spec();
        let mut declared = Declared::new(Key::only(spec.name), Place::new(pen.file, at));
        pen.about = About::resource(&declared.key);
        let entries = match (spec.identity.bare, node.value) {
            (_, Value::Faulty) => return pen.about = About::Nobody,
            (_, Value::Null) => {
                pen.error(at, "", "has nothing after it; write what it shall hold, or take the line out");
                return pen.about = About::Nobody;
            }
            (Some(field), value) => {
                vec![Entry { key: field.to_owned(), at, node: Node { at: node.at, value } }]
            }
            (None, Value::Map(entries)) => entries,
            (None, other) => {
                pen.error(at, "", format!("must be a mapping of fields but is {}", other.sort()));
                return pen.about = About::Nobody;
            }
        };
        let named = self.fields(pen, kind, &mut declared, entries);
        pen.report.named.extend(named);
        pen.report.resources.push(Arc::new(declared));
        pen.about = About::Nobody;
    }

    /// Reads the fields, and returns which of them name files.
    fn fields(
        &self,
        pen: &mut Pen<'_>,
        kind: &'static dyn Kind,
        declared: &mut Declared,
        entries: Vec<Entry>,
    ) -> Vec<Named> {
        let spec = kind.spec();
        let begin = At { line: declared.place.line, column: declared.place.column };
        let is_missing = |name: &str| !entries.iter().any(|entry| entry.key == name) && !spec.is_identity(name);
        let required = spec.fields().filter(|(_, field)| field.need == Need::Required);
        for (_, field) in required.filter(|(_, field)| is_missing(field.name)) {
            pen.error(begin, field.name, "is missing; the API refuses to create one without it");
        }
        let mut places: Vec<(&'static str, At)> = Vec::with_capacity(entries.len());
        let mut fields = Document::new();
        let errors = pen.report.errors.count();
        for entry in entries {
            places.extend(self.field(pen, kind, (declared, &mut fields), entry));
        }
        let place_of = |name: &str| places.iter().find(|(field, _)| *field == name).map_or(begin, |(_, at)| *at);
        if pen.report.errors.count() == errors {
            for (field, message) in (spec.check)(&fields) {
                pen.error(place_of(field), field, message);
            }
            (spec.complete)(&mut fields);
        }
        let in_files = spec.fields().filter(|(_, field)| field.is_in_a_file());
        let named = in_files.filter_map(|(_, field)| {
            let path = fields.get(field.name)?.as_str()?.into();
            Some(Named { resource: pen.report.resources.len(), field: field.name, at: place_of(field.name), path })
        });
        let named = named.collect();
        declared.fields = Written::of(spec, fields);
        named
    }

    /// Reads one, and returns its name, where it is one of the table's, and its place.
    fn field(
        &self,
        pen: &mut Pen<'_>,
        kind: &'static dyn Kind,
        (declared, fields): (&mut Declared, &mut Document),
        entry: Entry,
    ) -> Option<(&'static str, At)> {
        let Entry { key, at, node } = entry;
        if node.value == Value::Faulty {
            return None;
        }
        let spec = kind.spec();
        let mut reader = Reader { fence: self.fence, pen };
        if let Some((_, field)) = spec.field(&key).filter(|(_, field)| field.is_declarable()) {
            reader.unusual(field, at, &node);
            if spec.is_identity(field.name) {
                // `identity` has read them, and a reference in their place is still to be refused.
                reader.refuse_reference(field.name, &node);
            } else if let Some(value) = reader.field(field.name, field, at, node) {
                fields.insert(key, value);
            }
            return Some((field.name, at));
        }
        match key.as_str() {
            PROTECTED => declared.protected = pen.flag(at, PROTECTED, &node),
            CASCADE_DELETE if spec.verbs.cascade => declared.cascade_delete = pen.flag(at, CASCADE_DELETE, &node),
            RENAMED_FROM if spec.verbs.rename => match node.value {
                Value::Text(old) if old.is_empty() => {
                    pen.error(at, RENAMED_FROM, "is empty; write the old name, or take the line out");
                }
                Value::Text(old) if *old == *declared.key.name => {
                    pen.error(at, RENAMED_FROM, "is the name that the resource has now; write the old name");
                }
                Value::Text(old) => declared.renamed_from = Some(old.into()),
                other => pen.error(at, RENAMED_FROM, must_be("a text", &other)),
            },
            SECRET_FILE if spec.shows_secret => match node.value {
                Value::Text(path) => self.secret_file(pen, declared, at, &path),
                other => pen.error(at, SECRET_FILE, must_be("a text", &other)),
            },
            SECRET_FILE => pen.error(at, SECRET_FILE, format!("Descope shows no secret of {}", kind.name())),
            RENAMED_FROM => pen.error(at, RENAMED_FROM, format!("{} cannot be renamed", kind.name())),
            CASCADE_DELETE => pen.error(at, CASCADE_DELETE, format!("{} have no cascading delete", kind.name())),
            _ => {
                if reference_of(&node).is_some() {
                    reader.refuse_reference(&short(&key), &node);
                }
                let declarable = spec.fields().filter(|(_, field)| field.is_declarable());
                let known = declarable.map(|(_, field)| field.name).chain([PROTECTED]);
                let known = known.chain(spec.verbs.rename.then_some(RENAMED_FROM));
                let known = known.chain(spec.verbs.cascade.then_some(CASCADE_DELETE));
                let known = known.chain(spec.shows_secret.then_some(SECRET_FILE));
                let message = format!("{} have no such field{}", kind.name(), did_you_mean(&key, known));
                pen.error(at, &short(&key), message);
            }
        }
        None
    }
}

impl Checker<'_> {
    /// Where the secret goes that Descope shows once. One that exists goes on without a place for it.
    fn secret_file(&self, pen: &mut Pen<'_>, declared: &mut Declared, at: At, path: &str) {
        if let Some(message) = secret_file::not_for_secrets(path) {
            pen.error(at, SECRET_FILE, message);
        }
        match self.fence.check_target(path) {
            Ok(()) if self.fence.volume == Volume::Apart => pen.warning(at, SECRET_FILE, volume::APART.to_owned()),
            Ok(()) => {}
            Err(Refusal::NoDirectory) => pen.warning(at, SECRET_FILE, NO_DIRECTORY.to_owned()),
            Err(refusal) => pen.error(at, SECRET_FILE, refusal.to_string()),
        }
        declared.secret_file = Some(self.fence.name_of(path).into());
    }
}

const NO_DIRECTORY: &str = "files are not allowed here, so the resource will not be created; the project's `secrets.dir` \
                            must name the directory that it is in";

/// Why a resource has no identity.
pub struct Missing {
    at: Option<At>,
    field: &'static str,
    message: String,
}

/// Who a resource is, as its fields say.
pub fn identity(spec: &'static Spec, entries: &[Entry]) -> Result<Key, Missing> {
    let value = |name: &str| {
        let entry = entries.iter().find(|entry| entry.key == name);
        (entry.map(|entry| entry.at), entry.map_or(&Value::Null, |entry| &entry.node.value))
    };
    let name: Arc<str> = if let Some(field) = spec.identity.field {
        let (at, value) = value(field);
        match value {
            Value::Text(text) if !text.is_empty() => text.as_str().into(),
            Value::Text(_) => {
                return Err(Missing { at, field, message: "is empty; it identifies the resource".into() });
            }
            Value::Null => {
                return Err(Missing { at, field, message: "is missing; it identifies the resource".into() });
            }
            other => return Err(Missing { at, field, message: must_be("a text", other) }),
        }
    } else {
        spec.name.into()
    };
    let mut key = Key { kind: spec.name, tenant: None, name };
    if let Some(field) = spec.identity.tenant {
        let (at, value) = value(field);
        key.tenant = match value {
            Value::Text(text) if !text.is_empty() => Some(text.as_str().into()),
            Value::Null | Value::Text(_) => None,
            other => return Err(Missing { at, field, message: must_be("a text", other) }),
        };
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Finding;
    use crate::desired::testing::KINDS;
    use globset::Glob;
    use globset::GlobSetBuilder;
    use serde_json::Value as Json;
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
        let fields: Vec<_> = report.resources.iter().map(|r| Json::Object(r.fields.to_document())).collect();
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
    #[allow(clippy::too_many_lines, reason = "a case for each message")]
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
        assert_eq!(report(unix).resources[0].fields.to_document()["description"], "one\ntwo\n");
    }

    #[test]
    fn an_empty_map_of_attributes_is_worth_a_warning() {
        let report = report("tenants:\n  - id: a\n    name: A\n    customAttributes: {}\n");

        assert_eq!(
            lines(&report.warnings),
            ["a.yaml:4: tenants/a: customAttributes: manages nothing: attributes are managed one by one; \
              `null` clears all of them"]
        );
        assert_eq!(report.resources[0].fields.to_document()["customAttributes"], json!({}));
    }

    #[test]
    fn a_file_that_is_wrong_throughout_is_cut_short() {
        let text = format!("roles:\n{}", "  - 1\n".repeat(1500));

        let errors = report(&text).errors;

        assert_eq!((errors.len(), errors.count()), (300, 1500));
    }
}
