//! The other way round: what lives in a project, as files that declare it.
//!
//! The files are minimal (what is empty, computed or built in is left out), sorted, and the same for the same project.

#![allow(clippy::wildcard_enum_match_arm, reason = "whatever else there is stands for itself")]

use crate::desired::check::SECRET_FILE;
use crate::resource::Document;
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::MAIN;
use crate::resource::Opaque;
use crate::resource::Part;
use crate::resource::Shape;
use crate::resource::Spec;
use crate::resource::fold::canonical;
use crate::resource::fold::is_zero;
use crate::resource::fold::same;
use crate::resource::opaque::Source;
use crate::resource::spec::Back;
use crate::resource::spec::Read;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

pub mod text;

pub use text::Yaml;

/// What the names of the variables begin with that the files refer to.
pub const SECRET_PREFIX: &str = "SECRET_";

/// Where the schema lies that the files name. The dot keeps it out of what is read.
pub const SCHEMA_FILE: &str = ".desired.schema.json";

/// What an export says.
#[derive(Debug, Default)]
pub struct Export {
    /// Text by path, with `/`.
    pub files: BTreeMap<String, String>,
    /// What has to be filled in.
    pub secrets: Vec<Secret>,
    /// Do the files name places for secrets that Descope shows once?
    pub has_secret_files: bool,
    /// What could not be written down, and why.
    pub notes: Vec<String>,
    /// How many resources.
    pub resources: usize,
}

/// A secret that no answer shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Of which resource.
    pub key: Key,
    /// `clientSecret`.
    pub path: String,
    /// The variable that the file refers to.
    pub variable: String,
}

/// One resource, and the file it goes to.
struct Item {
    key: Key,
    file: String,
    yaml: Yaml,
}

/// Writes down what lives. `is_wanted` says of which resources. Of each kind, `live` holds every resource, in the form of
/// requests, with the parts that have calls of their own. Files of the names that are `taken` are not written.
pub fn export(
    live: &BTreeMap<&'static str, Vec<Document>>,
    builtin_names: &[String],
    is_wanted: &dyn Fn(&Key) -> bool,
    taken: &[String],
) -> Export {
    let mut writer = Writer::default();
    writer.names.extend(taken.iter().map(|name| name.to_lowercase()));
    for kind in crate::resource::ALL.iter().filter(|kind| kind.spec().is_only() && is_wanted(&Key::only(kind.name()))) {
        let only = live.get(kind.name()).and_then(|documents| documents.first());
        writer.only.extend(only.map(|only| (kind.name(), only)));
    }
    for kind in crate::resource::ALL {
        let Some(documents) = live.get(kind.name()) else { continue };
        let mut items = writer.kind(*kind, documents, builtin_names, is_wanted);
        items.sort_by(|a, b| a.key.cmp(&b.key));
        writer.export.resources += items.len();
        writer.files(*kind, items);
    }
    writer.export
}

/// What has to be said of what is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Empty {
    /// Nothing: a resource that is made without it has nothing there.
    Nothing,
    /// That flags are off. It may begin with others on, and what else is empty is not in use.
    Flags,
    /// All of it: it begins with what somebody else wrote.
    All,
}

#[derive(Default)]
struct Writer<'l> {
    export: Export,
    variables: BTreeSet<String>,
    /// Where the YAML of the resource at hand lies, with a `/` at the end.
    folder: String,
    names: BTreeSet<String>,
    /// What is written down of the kinds of which there is one.
    only: BTreeMap<&'static str, &'l Document>,
}

impl Writer<'_> {
    fn kind(
        &mut self,
        kind: &'static dyn Kind,
        documents: &[Document],
        builtin_names: &[String],
        is_wanted: &dyn Fn(&Key) -> bool,
    ) -> Vec<Item> {
        let mut found: Vec<(Key, &Document)> = documents
            .iter()
            .filter(|live| !kind.is_builtin(live, builtin_names) && !kind.is_unset(live))
            .filter_map(|live| Some((kind.key(live)?, live)))
            .filter(|(key, _)| is_wanted(key))
            .collect();
        found.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| kind.server_id(x).cmp(&kind.server_id(y))));
        let mut items = Vec::with_capacity(found.len());
        for (at, (key, live)) in found.iter().enumerate() {
            let is_same = |other: Option<&(Key, &Document)>| other.is_some_and(|(other, _)| other == key);
            // Sorted, so that those of one name are neighbours.
            let is_doubtful = is_same(at.checked_sub(1).and_then(|at| found.get(at))) || is_same(found.get(at + 1));
            let has_folder = has_parts_of_its_own(kind.spec(), live);
            self.folder = if has_folder { format!("{}/", kind.name()) } else { String::new() };
            let yaml = self.resource(kind, key, live, is_doubtful);
            let file = if has_folder {
                self.unique_name(&format!("{}{}", self.folder, text::file_name(&key.id())), "yaml")
            } else {
                format!("{}.yaml", kind.name())
            };
            items.push(Item { key: key.clone(), file, yaml });
        }
        items
    }

    /// Two ids may differ in what a file's name cannot show.
    fn unique_name(&mut self, stem: &str, end: &str) -> String {
        let mut number = (1..).map(|n| if n == 1 { format!("{stem}.{end}") } else { format!("{stem}~{n}.{end}") });
        let free = number.find(|name| self.names.insert(name.to_lowercase()));
        free.unwrap_or_default()
    }

    fn files(&mut self, kind: &'static dyn Kind, items: Vec<Item>) {
        let mut by_file: BTreeMap<String, Vec<Yaml>> = BTreeMap::new();
        for item in items {
            by_file.entry(item.file).or_default().push(item.yaml);
        }
        for (path, items) in by_file {
            let value = if kind.spec().is_only() {
                items.into_iter().next().unwrap_or(Yaml::Map(Vec::new()))
            } else {
                Yaml::List(items)
            };
            let up = "../".repeat(path.matches('/').count());
            let path = match path.strip_suffix(".yaml").filter(|_| !path.contains('/')) {
                Some(stem) => self.unique_name(stem, "yaml"),
                None => path,
            };
            let header = format!("# yaml-language-server: $schema={up}{SCHEMA_FILE}\n");
            let document = Yaml::Map(vec![(kind.name().to_owned(), value)]);
            self.export.files.insert(path, header + &text::document(&document));
        }
    }

    fn resource(&mut self, kind: &'static dyn Kind, key: &Key, live: &Document, is_doubtful: bool) -> Yaml {
        let spec = kind.spec();
        let mut fields = Vec::new();
        let mut declared = Document::new();
        for (part, field) in spec.fields().filter(|(_, field)| field.is_declarable()) {
            if spec.is_server_id(field.name) && !is_doubtful {
                continue;
            }
            if spec.identity.field == Some(field.name) {
                fields.push((field.name.to_owned(), Yaml::Text(key.name.to_string())));
                if spec.shows_secret {
                    fields.push((SECRET_FILE.to_owned(), Yaml::Text(self.secret_file(key))));
                }
                continue;
            }
            let Some(yaml) = self.field(spec, part, key, field, live) else { continue };
            declared.insert(field.name.to_owned(), yaml.to_json());
            fields.push((field.name.to_owned(), yaml));
        }
        // A secret of another type of resource is none that it has.
        let found = (spec.check)(&declared);
        let is_secret = |name: &str| spec.field(name).is_some_and(|(_, field)| matches!(field.shape, Shape::Secret));
        for (field, message) in found.iter().filter(|(field, _)| declared.contains_key(*field) && !is_secret(field)) {
            self.note(key, field, &format!("cannot be declared as it is, since it {message}"));
        }
        let refused: Vec<&str> = found.into_iter().map(|(field, _)| field).collect();
        fields.retain(|(name, _)| !refused.contains(&name.as_str()));
        let is_kept = |secret: &Secret| {
            let top = secret.path.split(['.', '[']).next().unwrap_or_default();
            secret.key != *key || !refused.contains(&top)
        };
        self.export.secrets.retain(is_kept);
        match spec.identity.bare.and_then(|bare| fields.iter().position(|(name, _)| name == bare)) {
            Some(at) => fields.swap_remove(at).1,
            None => Yaml::Map(fields),
        }
    }

    /// What is worth writing of a field; `None` where it is what nobody needs to write.
    fn field(&mut self, spec: &Spec, part: &Part, key: &Key, field: &Field, live: &Document) -> Option<Yaml> {
        let value = live.get(field.name).unwrap_or(&Value::Null);
        if matches!(field.shape, Shape::Secret) {
            let is_there = part.read != Read::Each || has_any(part, live);
            return is_there.then(|| self.secret(key, field.name));
        }
        if field.back == Back::Never {
            return None;
        }
        let is_found = part.name != MAIN && part.read == Read::Each && has_any(part, live);
        let empty = match field.shape {
            _ if spec.is_only() => Empty::All,
            _ if field.inherits.is_some() && is_found => Empty::All,
            Shape::Flag | Shape::Object(_) if is_found => Empty::Flags,
            _ => Empty::Nothing,
        };
        if field.inherits.is_some_and(|kind| self.is_inherited(kind, field, value)) {
            return None;
        }
        self.unless_implied(key, field.name, field, live, empty)
    }

    /// Does whoever writes nothing there have the same, from what is written down of this kind?
    fn is_inherited(&self, kind: &str, field: &Field, value: &Value) -> bool {
        let (Shape::Object(fields), Some(only)) = (field.shape, self.only.get(kind)) else { return false };
        let is_told = |field: &&Field| match field.back {
            Back::AsWritten => true,
            Back::Maybe => value.get(field.name).is_some(),
            Back::Never | Back::Computed => false,
        };
        let zero = Value::Null;
        fields.iter().filter(is_told).all(|field| {
            let (own, theirs) = (value.get(field.name), only.get(field.name));
            same(field.shape, own, theirs.unwrap_or(&zero))
        })
    }

    /// What is worth writing of a value, where an apply would not bring it about by itself.
    fn unless_implied(&mut self, key: &Key, path: &str, field: &Field, live: &Document, empty: Empty) -> Option<Yaml> {
        let value = live.get(field.name).unwrap_or(&Value::Null);
        let start = field.start();
        if !is_zero(value) {
            let is_implied = empty == Empty::Nothing && canonical(field.shape, value) == start;
            return if is_implied { None } else { self.value(key, path, field.shape, value, empty) };
        }
        let is_returned = field.back == Back::AsWritten || live.contains_key(field.name);
        let begins_empty = field.start.is_some() && is_zero(&start);
        let is_worth_it = match empty {
            Empty::Nothing => !is_zero(&start),
            Empty::Flags => !is_zero(&start) || matches!(field.shape, Shape::Flag) && !begins_empty,
            Empty::All => true,
        };
        if is_worth_it && is_returned { nothing(field.shape).or_else(|| null(field)) } else { None }
    }

    fn value(&mut self, key: &Key, path: &str, shape: Shape, value: &Value, empty: Empty) -> Option<Yaml> {
        if let Shape::Opaque(opaque) = shape {
            return Some(self.document(key, path, opaque, value));
        }
        let value = canonical(shape, value);
        match (shape, value) {
            (Shape::OneOf(words), Value::String(word)) => {
                if words.contains(&word.as_str()) {
                    return Some(Yaml::Text(word));
                }
                self.note(key, path, "is a word that this version does not know");
                None
            }
            (Shape::Integer(least, most), Value::Number(number)) => {
                if number.as_i64().is_some_and(|number| (least..=most).contains(&number)) {
                    return Some(Yaml::Number(number));
                }
                self.note(key, path, "is out of its bounds");
                None
            }
            (Shape::Set | Shape::References(_), Value::Array(items)) => {
                let texts = items.iter().filter_map(Value::as_str).filter(|text| !text.is_empty());
                Some(Yaml::List(texts.map(|text| Yaml::Text(text.to_owned())).collect()))
            }
            (Shape::List(shape), Value::Array(items)) => Some(Yaml::List(
                items
                    .iter()
                    .enumerate()
                    .map(|(n, item)| {
                        let path = format!("{path}[{n}]");
                        self.value(key, &path, *shape, item, Empty::Nothing).unwrap_or_else(|| Yaml::from_json(item))
                    })
                    .collect(),
            )),
            (Shape::Map(shape), Value::Object(entries)) => {
                let mut kept = Vec::new();
                for (name, value) in &entries {
                    let path = format!("{path}.{name}");
                    let yaml = self.value(key, &path, *shape, value, Empty::Nothing).unwrap_or(Yaml::Map(Vec::new()));
                    kept.push((name.clone(), yaml));
                }
                Some(Yaml::Map(kept))
            }
            (Shape::Object(fields), Value::Object(object)) => {
                let kept = self.object(key, path, fields, &[], &object, empty);
                (!kept.is_empty()).then_some(Yaml::Map(kept))
            }
            (Shape::Items { key: names, fields, .. }, Value::Array(items)) => {
                let mut kept = Vec::new();
                for item in &items {
                    let Value::Object(object) = item else { continue };
                    let id = crate::resource::secret::item_id(names, item).join(",");
                    let path = format!("{path}[{id}]");
                    kept.push(Yaml::Map(self.object(key, &path, fields, names, object, Empty::Nothing)));
                }
                Some(Yaml::List(kept))
            }
            (Shape::Name, Value::String(text)) if text.is_empty() => None,
            (Shape::Secret, _) => None,
            (_, value) => Some(Yaml::from_json(&value)),
        }
    }

    fn object(
        &mut self,
        key: &Key,
        path: &str,
        fields: &'static [Field],
        names: &[&str],
        live: &Document,
        empty: Empty,
    ) -> Vec<(String, Yaml)> {
        let mut kept = Vec::new();
        let is_empty = live.values().all(is_zero);
        for field in fields.iter().filter(|field| field.is_declarable()) {
            let path = format!("{path}.{}", field.name);
            let value = live.get(field.name).unwrap_or(&Value::Null);
            let yaml = match field.shape {
                Shape::Secret => (!is_empty).then(|| self.secret(key, &path)),
                _ if field.back == Back::Never => None,
                shape if is_zero(value) && (field.is_needed || names.contains(&field.name)) => nothing(shape),
                _ => self.unless_implied(key, &path, field, live, empty),
            };
            kept.extend(yaml.map(|yaml| (field.name.to_owned(), yaml)));
        }
        kept
    }

    /// A document goes into a file of its own, unless the files have it in the YAML.
    fn document(&mut self, key: &Key, path: &str, opaque: &Opaque, value: &Value) -> Yaml {
        let end = match opaque.source {
            Source::Inline => return Yaml::from_json(&opaque.canonical(value)),
            Source::Json => "json",
            Source::Text => "txt",
        };
        let text = document_text(opaque, value);
        let is_only = key.tenant.is_none() && *key.name == *key.kind;
        let id = if is_only { key.kind.to_owned() } else { format!("{}/{}", key.kind, text::file_name(&key.id())) };
        // Most kinds have one document, in a field that says no more than that.
        let stem = if path.contains(['.', '[']) { format!("{id}-{}", text::file_name(path)) } else { id };
        let file = self.unique_name(&stem, end);
        self.export.files.insert(file.clone(), text);
        Yaml::Text(file.strip_prefix(&self.folder).unwrap_or(&file).to_owned())
    }

    fn secret(&mut self, key: &Key, path: &str) -> Yaml {
        let stem = format!("{SECRET_PREFIX}{}", text::variable(&format!("{}_{}_{path}", key.kind, key.id())));
        let mut number = (1..).map(|n| if n == 1 { stem.clone() } else { format!("{stem}_{n}") });
        let variable = number.find(|name| self.variables.insert(name.clone())).unwrap_or_default();
        self.export.secrets.push(Secret { key: key.clone(), path: path.to_owned(), variable: variable.clone() });
        Yaml::Secret(variable)
    }

    /// Below the project's `secrets.dir`: where the secret goes if this is ever made anew.
    fn secret_file(&mut self, key: &Key) -> String {
        self.export.has_secret_files = true;
        self.unique_name(&format!("{}-{}", key.kind, text::file_name(&key.id())), "secret")
    }

    fn note(&mut self, key: &Key, path: &str, what: &str) {
        self.export.notes.push(format!("{key}: {path} {what}; it is left out, so an apply leaves it as it is"));
    }
}

/// A document as its file holds it.
pub fn document_text(opaque: &Opaque, value: &Value) -> String {
    if opaque.source == Source::Text {
        return format!("{}\n", value.as_str().unwrap_or_default().trim_end());
    }
    serde_json::to_string_pretty(&opaque.canonical(value)).unwrap_or_default() + "\n"
}

/// A value that says nothing, where one has to stand.
pub fn nothing(shape: Shape) -> Option<Yaml> {
    match shape {
        Shape::Text | Shape::Reference(_) => Some(Yaml::Text(String::new())),
        Shape::Flag => Some(Yaml::Flag(false)),
        Shape::Integer(least, _) if least <= 0 => Some(Yaml::Number(0.into())),
        Shape::OneOf(words) => words.contains(&"").then(|| Yaml::Text(String::new())),
        Shape::Set | Shape::References(_) | Shape::List(_) | Shape::Items { .. } => Some(Yaml::List(Vec::new())),
        Shape::Attributes | Shape::Map(_) | Shape::Object(_) => Some(Yaml::Map(Vec::new())),
        Shape::Name | Shape::Integer(..) | Shape::Json | Shape::Opaque(_) | Shape::Secret => None,
    }
}

/// The word that clears a field whose empty value cannot be written.
fn null(field: &Field) -> Option<Yaml> {
    let is_clearable = field.is_clearable() && matches!(field.shape, Shape::Integer(..) | Shape::OneOf(_));
    is_clearable.then_some(Yaml::Null)
}

/// Did the call of this part show anything?
fn has_any(part: &Part, live: &Document) -> bool {
    part.fields.iter().any(|field| live.get(field.name).is_some_and(|value| !is_zero(value)))
}

/// Such a resource is long, and gets a file of its own.
fn has_parts_of_its_own(spec: &Spec, live: &Document) -> bool {
    spec.parts.iter().any(|part| part.read == Read::Each && part.name != MAIN && has_any(part, live))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descope::script::document;
    use serde_json::json;

    fn tenants(live: Value) -> String {
        let live = BTreeMap::from([("tenants", vec![document(live)])]);
        export(&live, &[], &|_| true, &[]).files.into_values().next().unwrap_or_default()
    }

    /// A flag that may begin on has to be said to be off; what begins empty, or is no flag, need not be said.
    #[test]
    fn of_settings_that_were_found_the_flags_that_are_off_are_written_unless_they_begin_so() {
        let settings = json!({ "authType": "saml", "enabled": false, "JITDisabled": false, "inactivityTime": 0 });

        let text = tenants(json!({ "id": "acme", "name": "Acme", "settings": settings }));

        assert!(text.contains("      enabled: false\n") && text.contains("      authType: saml\n"), "{text}");
        assert!(!text.contains("JITDisabled") && !text.contains("inactivityTime"), "{text}");
    }

    #[test]
    fn what_a_resource_has_without_a_word_is_not_written() {
        let text = tenants(json!({ "id": "acme", "name": "Acme", "disabled": false, "selfProvisioningDomains": [] }));

        assert_eq!(text.lines().skip(1).collect::<Vec<_>>().join("\n"), "tenants:\n  - id: acme\n    name: Acme");
    }

    fn exported(kind: &'static str, live: impl IntoIterator<Item = Value>) -> Export {
        let live = BTreeMap::from([(kind, live.into_iter().map(document).collect())]);
        export(&live, &[], &|_| true, &[])
    }

    #[test]
    fn what_has_parts_of_its_own_gets_a_file_of_its_own_whatever_the_names() {
        let settings = json!({ "authType": "saml", "enabled": true });
        let tenant = |id: &str| json!({ "id": id, "name": id, "settings": settings });

        let found = exported("tenants", [tenant("a"), tenant("A"), json!({ "id": "b", "name": "B" })]);

        assert_eq!(found.files.keys().collect::<Vec<_>>(), ["tenants.yaml", "tenants/A.yaml", "tenants/a~2.yaml"]);
        assert!(found.files["tenants/a~2.yaml"].contains("id: a\n"), "{:?}", found.files);
    }

    #[test]
    fn each_secret_gets_a_variable_of_its_own() {
        let app = |id: &str| json!({ "id": id, "name": id, "description": "x" });

        let found = exported("outboundApps", [app("a-b"), app("a_b")]);

        let variables: Vec<_> = found.secrets.iter().map(|secret| secret.variable.as_str()).collect();
        let stem = format!("{SECRET_PREFIX}OUTBOUND_APPS_A_B_CLIENT_SECRET");
        assert_eq!(variables, [stem.as_str(), &format!("{stem}_2")]);
    }

    #[test]
    fn a_secret_that_is_shown_once_has_the_name_of_a_file_of_its_own() {
        let found = exported("inboundApps", [json!({ "id": "1", "name": "App" }), json!({ "id": "2", "name": "app" })]);

        let text = &found.files["inboundApps.yaml"];
        for file in ["inboundApps-App.secret", "\"inboundApps-app~2.secret\""] {
            assert!(found.has_secret_files && text.contains(&format!("secretFile: {file}\n")), "{text}");
        }
    }

    #[test]
    fn each_document_has_a_file_of_its_own_and_the_only_one_of_a_kind_is_named_for_it() {
        let flow = |id: &str| json!({ "id": id, "file": { "metadata": { "name": id } } });

        let (flows, theme) =
            (exported("flows", [flow("a"), flow("b")]), exported("theme", [json!({ "file": { "id": "t" } })]));

        assert_eq!(flows.files.keys().collect::<Vec<_>>(), ["flows.yaml", "flows/a.json", "flows/b.json"]);
        assert_eq!(theme.files.keys().collect::<Vec<_>>(), ["theme.json", "theme.yaml"]);
    }

    #[test]
    fn what_no_answer_shows_is_not_made_up() {
        const FIELDS: &[Field] = &[Field::text("hidden").never_returned().required(), Field::text("shown").required()];
        let key = Key::only("things");

        let found = Writer::default().object(&key, "", FIELDS, &[], &document(json!({ "x": 1 })), Empty::Nothing);

        assert_eq!(found, [("shown".to_owned(), Yaml::Text(String::new()))]);
    }
}
