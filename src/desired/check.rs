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
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Shape;
use crate::resource::Spec;
use crate::resource::Written;
use crate::resource::spec::Builtin;
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

/// The table of a kind, and what is asked of it for every resource.
struct Table {
    kind: &'static dyn Kind,
    /// Fields without which the API creates none, but for the identity.
    needed: Vec<&'static Field>,
    /// Fields that name a file.
    in_files: Vec<&'static Field>,
}

impl Table {
    fn of(kind: &'static dyn Kind) -> Self {
        let spec = kind.spec();
        let those = |is_it: &dyn Fn(&Field) -> bool| {
            spec.fields().map(|(_, field)| field).filter(|field| is_it(field)).collect()
        };
        let needed = those(&|field| field.is_needed && !spec.is_identity(field.name));
        Self { kind, needed, in_files: those(&Field::is_in_a_file) }
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
        // One byte is looked for in a fraction of the time of two, and hardly any file has it.
        let unix = (text.contains('\r') && text.contains("\r\n")).then(|| text.replace("\r\n", "\n"));
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
        let table = Table::of(kind);
        for item in items {
            self.resource(pen, &table, item);
        }
    }

    fn resource(&self, pen: &mut Pen<'_>, table: &Table, item: Node) {
        let (at, kind) = (item.at, table.kind);
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
        if let (Ok(key), Builtin::Prefix(prefix)) = (&key, kind.spec().builtin)
            && key.name.starts_with(prefix)
        {
            let message = format!(
                "begins with `{prefix}`, as what ships with Descope does, which is never changed; take it out, or give \
                 yours another one"
            );
            pen.error(at, kind.spec().identity.field.unwrap_or_default(), message);
        }
        let named = key.as_ref().map_or_else(|_| Key::new(kind.name(), ""), Key::clone);
        let mut declared = Declared::new(named, Place::new(pen.file, at));
        if let Err(Missing { at: of_field, field, message }) = &key {
            pen.error(of_field.unwrap_or(at), field, message.clone());
        }
        let named = self.fields(pen, table, &mut declared, entries);
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
        let named = self.fields(pen, &Table::of(kind), &mut declared, entries);
        pen.report.named.extend(named);
        pen.report.resources.push(Arc::new(declared));
        pen.about = About::Nobody;
    }

    /// Reads the fields, and returns which of them name files.
    fn fields(&self, pen: &mut Pen<'_>, table: &Table, declared: &mut Declared, entries: Vec<Entry>) -> Vec<Named> {
        let Table { kind, needed, in_files } = table;
        let spec = kind.spec();
        let begin = At { line: declared.place.line, column: declared.place.column };
        let is_missing = |name: &str| !entries.iter().any(|entry| entry.key == name);
        for field in needed.iter().filter(|field| is_missing(field.name)) {
            let remedy = match field.shape {
                Shape::OneOf(words) => format!("; write {}", one_of(words)),
                _ => String::new(),
            };
            pen.error(begin, field.name, format!("is missing; the API refuses to create one without it{remedy}"));
        }
        let mut places: Vec<(&'static str, At)> = Vec::with_capacity(entries.len());
        let mut fields = Document::new();
        let errors = pen.report.errors.count();
        for entry in entries {
            places.extend(self.field(pen, *kind, (declared, &mut fields), entry));
        }
        let place_of = |name: &str| places.iter().find(|(field, _)| *field == name).map_or(begin, |(_, at)| *at);
        if pen.report.errors.count() == errors {
            for (field, message) in (spec.check)(&fields) {
                pen.error(place_of(field), field, message);
            }
            (spec.complete)(&mut fields);
        }
        let named = in_files.iter().filter_map(|field| {
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

/// `"oidc", "saml" or "wsfed"`.
fn one_of(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match words.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        all => all.concat(),
    }
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
mod tests;
