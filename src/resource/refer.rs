//! Where documents name other resources: for the order of a plan, for warnings, and for what a rename changes.

use super::Document;
use super::Fields;
use super::Key;
use super::spec::Field;
use super::spec::InTenant;
use super::spec::Part;
use super::spec::Shape;
use super::spec::Spec;
use super::spec::To;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// One place that names another resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named<'a> {
    /// The field, the outermost where it is nested.
    pub field: &'static str,
    /// The kind of what is named.
    pub kind: &'static str,
    /// Its name.
    pub name: &'a str,
    /// It may be one of this tenant as well as one of the project.
    pub tenant: Option<&'a str>,
}

impl Named<'_> {
    /// What it may mean: one of the project, or one of the tenant.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        let own = self.tenant.map(|tenant| Key::in_tenant(self.kind, tenant, self.name));
        [Key::new(self.kind, self.name)].into_iter().chain(own)
    }
}

/// What a declared or live document refers to, with the calls of one part or of all. Where it lives is among it.
pub fn named<'a>(spec: &Spec, key: &'a Key, document: &'a dyn Fields, part: Option<&str>) -> Vec<Named<'a>> {
    named_by(naming(spec, part), key, document)
}

/// The fields of one part or of all that can name something. Most can not, and need no look.
pub fn naming<'p>(spec: &Spec, part: Option<&'p str>) -> impl Iterator<Item = &'static Field> + use<'p> {
    let parts = spec.parts.iter().filter(move |each| part.is_none_or(|name| name == each.name));
    parts.flat_map(|part| part.fields).filter(|field| field.entries_of.is_some() || may_name(field.shape))
}

/// What these fields of a document refer to, for who looks at many of a kind.
pub fn named_by<'a>(
    fields: impl IntoIterator<Item = &'static Field>,
    key: &'a Key,
    document: &'a dyn Fields,
) -> Vec<Named<'a>> {
    let mut found = Vec::new();
    for field in fields {
        if let Some(value) = document.get(field.name) {
            collect(field.name, field, value, document, key, &mut found);
        }
    }
    found
}

fn may_name(shape: Shape) -> bool {
    match shape {
        Shape::Object(_) | Shape::Items { .. } | Shape::Reference(_) | Shape::References(_) | Shape::Opaque(_) => true,
        Shape::List(shape) | Shape::Map(shape) => may_name(*shape),
        Shape::Text
        | Shape::Name
        | Shape::Flag
        | Shape::Integer(..)
        | Shape::OneOf(_)
        | Shape::Set
        | Shape::Attributes
        | Shape::Json
        | Shape::Secret => false,
    }
}

/// The same as keys. A name that may mean two gives both; what nobody creates or deletes needs no order.
pub fn references(spec: &Spec, key: &Key, document: &dyn Fields, part: Option<&str>) -> Vec<Key> {
    let named = named(spec, key, document, part);
    let is_main = part.is_none_or(|part| part == spec.main().name);
    named.iter().flat_map(Named::keys).chain(key.home().filter(|_| is_main)).collect()
}

/// The kinds that one of this kind can refer to.
pub fn reach(spec: &Spec) -> BTreeSet<&'static str> {
    let mut found: BTreeSet<&'static str> = spec.parts.iter().flat_map(reach_of).collect();
    found.extend(spec.identity.tenant.and(Key::in_tenant(spec.name, "x", "x").home()).map(|home| home.kind));
    found
}

/// The kinds that the fields of one part can refer to.
pub fn reach_of(part: &Part) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    part.fields.iter().for_each(|field| add_reach(field, &mut found));
    found
}

#[allow(clippy::wildcard_enum_match_arm, reason = "no other shape names a kind")]
fn add_reach(field: &Field, found: &mut BTreeSet<&'static str>) {
    found.extend(field.entries_of);
    match field.shape {
        Shape::Reference(to) | Shape::References(to) => found.extend([to.kind]),
        Shape::Object(fields)
        | Shape::Items { fields, .. }
        | Shape::List(&Shape::Object(fields))
        | Shape::Map(&Shape::Object(fields)) => fields.iter().for_each(|field| add_reach(field, found)),
        Shape::Opaque(opaque) => found.extend(opaque.names.iter().map(|(_, kind)| *kind)),
        _ => {}
    }
}

/// Can this part name what lives in a tenant?
pub fn may_name_inhabitants(part: &Part) -> bool {
    part.fields.iter().any(|field| names_inhabitants(field.shape))
}

#[allow(clippy::wildcard_enum_match_arm, reason = "no other shape names a kind")]
fn names_inhabitants(shape: Shape) -> bool {
    match shape {
        Shape::Reference(to) | Shape::References(to) => to.tenant != InTenant::No,
        Shape::Object(fields) | Shape::Items { fields, .. } => {
            fields.iter().any(|field| names_inhabitants(field.shape))
        }
        Shape::List(shape) | Shape::Map(shape) => names_inhabitants(*shape),
        _ => false,
    }
}

/// Does `document` name something by its old name? `renames` is from new to old.
pub fn refers_to_renamed(spec: &Spec, key: &Key, document: &Document, renames: &BTreeMap<Key, Key>) -> bool {
    named(spec, key, document, None).iter().any(|named| new_name(named, renames).is_some())
}

/// Replaces old names in what `document` refers to.
pub fn rename_references(spec: &Spec, key: &Key, document: &mut Document, renames: &BTreeMap<Key, Key>) {
    let fields = spec.parts.iter().flat_map(|part| part.fields);
    replace(fields, document, key, renames);
}

fn collect<'a>(
    top: &'static str,
    field: &'static Field,
    value: &'a Value,
    beside: &'a dyn Fields,
    key: &'a Key,
    found: &mut Vec<Named<'a>>,
) {
    let mut all = |fields: &'static [Field], object: &'a Document| {
        for field in fields {
            if let Some(value) = object.get(field.name) {
                collect(top, field, value, object, key, found);
            }
        }
    };
    match (field.shape, value) {
        (Shape::Attributes | Shape::Map(_), Value::Object(entries)) if field.entries_of.is_some() => {
            // What is cleared names nothing.
            let names = entries.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name);
            if let Some(kind) = field.entries_of {
                found.extend(names.map(|name| Named { field: top, kind, name, tenant: None }));
            }
        }
        (Shape::Object(fields), Value::Object(object)) => all(fields, object),
        (Shape::Items { fields, .. } | Shape::List(&Shape::Object(fields)), Value::Array(items)) => {
            items.iter().filter_map(Value::as_object).for_each(|object| all(fields, object));
        }
        (Shape::Map(&Shape::Object(fields)), Value::Object(entries)) => {
            entries.values().filter_map(Value::as_object).for_each(|object| all(fields, object));
        }
        (Shape::Reference(to), Value::String(name)) if !name.is_empty() => {
            found.push(Named { field: top, kind: to.kind, name, tenant: tenant(to, key, beside) });
        }
        (Shape::Opaque(opaque), document) => {
            let names = opaque.named(document).into_iter();
            found.extend(names.map(|(kind, name)| Named { field: top, kind, name, tenant: None }));
        }
        (Shape::References(to), Value::Array(names)) => {
            let tenant = tenant(to, key, beside);
            let names = names.iter().filter_map(Value::as_str);
            found.extend(names.map(|name| Named { field: top, kind: to.kind, name, tenant }));
        }
        _ => {}
    }
}

fn tenant<'a>(to: To, key: &'a Key, beside: &'a dyn Fields) -> Option<&'a str> {
    match to.tenant {
        InTenant::No => None,
        InTenant::Own => key.as_tenant().or(key.tenant.as_ref()).map(|tenant| &**tenant),
        InTenant::Beside(field) => beside.get(field).and_then(Value::as_str).filter(|tenant| !tenant.is_empty()),
    }
}

fn replace<'f>(
    fields: impl Iterator<Item = &'f Field>,
    document: &mut Document,
    key: &Key,
    renames: &BTreeMap<Key, Key>,
) {
    for field in fields {
        let Some(mut value) = document.get_mut(field.name).map(Value::take) else { continue };
        match (field.shape, &mut value) {
            (Shape::Object(fields), Value::Object(object)) => replace(fields.iter(), object, key, renames),
            (Shape::Items { fields, .. } | Shape::List(&Shape::Object(fields)), Value::Array(items)) => {
                let objects = items.iter_mut().filter_map(Value::as_object_mut);
                objects.for_each(|object| replace(fields.iter(), object, key, renames));
            }
            (Shape::Map(&Shape::Object(fields)), Value::Object(entries)) => {
                let objects = entries.values_mut().filter_map(Value::as_object_mut);
                objects.for_each(|object| replace(fields.iter(), object, key, renames));
            }
            (Shape::Reference(to), name) => rename(to, field.name, name, tenant(to, key, document), renames),
            (Shape::References(to), Value::Array(names)) => {
                let tenant = tenant(to, key, document);
                for name in names {
                    rename(to, field.name, name, tenant, renames);
                }
            }
            _ => {}
        }
        document.insert(field.name.to_owned(), value);
    }
}

fn rename(to: To, field: &'static str, value: &mut Value, tenant: Option<&str>, renames: &BTreeMap<Key, Key>) {
    let Some(name) = value.as_str() else { return };
    if let Some(new) = new_name(&Named { field, kind: to.kind, name, tenant }, renames) {
        *value = Value::from(&**new);
    }
}

fn new_name<'r>(named: &Named<'_>, renames: &'r BTreeMap<Key, Key>) -> Option<&'r Arc<str>> {
    let is_named = |old: &Key| {
        let is_in_reach = old.tenant.is_none() || old.tenant.as_deref() == named.tenant;
        old.kind == named.kind && is_in_reach && *old.name == *named.name
    };
    renames.iter().find(|(_, old)| is_named(old)).map(|(new, _)| &new.name)
}
