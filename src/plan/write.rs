//! From differences to calls: what is created, patched, or overwritten on top of what is there.

use super::Differing;
use super::FieldChange;
use super::Sent;
use super::Task;
use super::compare;
use super::compare::item_path;
use crate::desired::Declared;
use crate::resource::Document;
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::MAIN;
use crate::resource::Part;
use crate::resource::Shape;
use crate::resource::Spec;
use crate::resource::Write;
use crate::resource::fold::canonical;
use crate::resource::fold::folded;
use crate::resource::fold::is_zero;
use crate::resource::remember;
use crate::resource::secret;
use crate::resource::secret::item_id;
use crate::resource::spec::Back;
use crate::resource::spec::How;
use crate::resource::spec::Need;
use crate::resource::spec::Omit;
use crate::resource::twins;
use serde_json::Value;
use std::sync::Arc;

/// The writes that remove `fields`, each with the part that it is of, main first. `old` is the present key where the
/// resource is renamed.
pub fn writes(
    kind: &dyn Kind,
    declared: &Declared,
    live: Option<&Document>,
    old: Option<&Key>,
    fields: &[FieldChange],
    is_unlisted: bool,
) -> Vec<(&'static Part, Write)> {
    let spec = kind.spec();
    let mut writes = Vec::new();
    for part in spec.parts {
        let is_changed = fields.iter().any(|change| spec.part_at(&change.path).name == part.name);
        let is_main = part.name == MAIN;
        let write = match live {
            // Created a moment ago and not listed yet: only a part is left to do.
            None if is_main && is_unlisted => None,
            None if is_main => Some(Write::Create(creation(spec, declared))),
            // A new resource has nothing in its parts.
            None if !is_changed || is_empty(part, declared) => None,
            None if spec.comes_with_create(part, &declared.fields) => None,
            Some(_) if !(is_changed || is_main && old.is_some()) => None,
            _ => Some(change(spec, part, declared, live, old, fields)),
        };
        writes.extend(write.map(|write| (part, write)));
    }
    writes
}

/// Was this part, which has a call of its own, declared when we made the resource, and not written since? `Same` where it was
/// declared as it is now: then it is what the create is still to bring, and nobody could have set anything of it that anybody
/// relies on.
pub fn came_along(part: &Part, declared: &Declared, sent: &dyn Fn(&Key, &str, &Value) -> Sent) -> Sent {
    let of_field = |field: &Field| {
        let value = declared.fields.get(field.name)?;
        Some(sent(&declared.key, &remember::along(field.name), &folded(field.shape, value)))
    };
    let all: Vec<Sent> = part.fields.iter().filter_map(of_field).collect();
    if part.name == MAIN || all.is_empty() || all.contains(&Sent::Unknown) {
        Sent::Unknown
    } else if all.contains(&Sent::Different) {
        Sent::Different
    } else {
        Sent::Same
    }
}

/// What this declaration refers to, with whatever call.
pub fn references_of(kind: &dyn Kind, declared: &Declared) -> Vec<Key> {
    kind.references(&declared.key, &declared.fields, None)
}

/// What an overwriting call resets, though nobody declared it and nobody can read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// The part whose call does it.
    pub part: &'static str,
    /// The field.
    pub field: &'static str,
    /// It is a secret, which nobody could put back: no approval lets it go.
    pub is_secret: bool,
}

/// An overwriting call resets what it does not carry: of each such call a field that this may hit, a secret first, where
/// nobody can read what it is.
pub fn unreadable_losses(
    declared: &Declared,
    live: Option<&Document>,
    returned: impl Fn(&str) -> bool,
    writes: &[(&'static Part, Write)],
    changes: &[FieldChange],
) -> Vec<Loss> {
    let Some(live) = live else { return Vec::new() };
    // A rename that patches overwrites nothing.
    let overwrites =
        |(part, write): &&(&Part, Write)| part.how != How::Patch && matches!(write, Write::Overwrite { .. });
    let overwritten = writes.iter().filter(overwrites).map(|(part, _)| part);
    let first = |part: &'static Part| {
        // What has calls by the item loses nothing in those that are not sent.
        let is_sent = |field: &Field, path: &str| {
            let mut inside = changes.iter().filter_map(|change| change.path.strip_prefix(path)?.strip_prefix('.'));
            part.how != How::Items || inside.any(|inside| !is_apart(field.shape, inside))
        };
        let mut found = Vec::new();
        for field in part.fields {
            let is_seen = field.back == Back::Maybe && returned(field.name);
            let declared = declared.fields.get(field.name);
            lost(field, is_seen, live.get(field.name), declared, &|path| is_sent(field, path), &mut found);
        }
        let is_secret = |field: &&Field| matches!(field.shape, Shape::Secret);
        let lost = found.iter().copied().find(is_secret).or(found.first().copied())?;
        Some(Loss { part: part.name, field: lost.name, is_secret: is_secret(&lost) })
    };
    overwritten.filter_map(|part| first(part)).collect()
}

/// Finds the field, or those inside of it, that a call resets which does not carry them.
fn lost(
    field: &'static Field,
    is_seen: bool,
    live: Option<&Value>,
    declared: Option<&Value>,
    is_sent: &dyn Fn(&str) -> bool,
    found: &mut Vec<&'static Field>,
) {
    let is_unseen = field.back == Back::Never || field.back == Back::Maybe && !is_seen;
    let mut inside = |fields: &'static [Field], live: &Value, declared: &Document| {
        for field in fields {
            let live = live.get(field.name);
            lost(field, live.is_some(), live, declared.get(field.name), is_sent, found);
        }
    };
    match (declared, field.shape) {
        // What only a create can set no later call resets.
        (None, _) if is_unseen && field.omit == Omit::Resets && field.need != Need::AtCreation => found.push(field),
        (Some(Value::Object(object)), Shape::Object(fields)) => {
            // What is not there yet has nothing to lose.
            if let Some(live) = live.filter(|live| !is_zero(live)) {
                inside(fields, live, object);
            }
        }
        (Some(Value::Array(items)), Shape::Items { key, fields, .. }) => {
            let present = live.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            for item in items.iter().filter(|item| is_sent(&item_path(field.name, key, item))) {
                let live = present.iter().find(|live| item_id(key, live) == item_id(key, item));
                if let Some((live, object)) = live.zip(item.as_object()) {
                    inside(fields, live, object);
                }
            }
        }
        (None | Some(_), _) => {}
    }
}

/// Has what is at this path, inside of an item, a call of its own?
fn is_apart(shape: Shape, inside: &str) -> bool {
    let Shape::Items { fields, .. } = shape else { return false };
    fields.iter().any(|field| field.apart && field.name == inside)
}

/// A part that is read by itself, planned anew on what its call shows right now.
pub struct Afresh {
    /// Built on that.
    pub write: Write,
    /// What is left to be changed.
    pub fields: Vec<FieldChange>,
}

/// The write of a part as it has to be by now. `None` where what is there is not what the plan rested on. What no answer
/// tells is left as the plan found it.
pub fn afresh(kind: &dyn Kind, part: &'static Part, task: &Task, live: &Document) -> Option<Afresh> {
    let whole = task.declared.as_deref()?;
    let own = Declared { fields: whole.fields.of_part(part), ..whole.clone() };
    let planned = task.fields.list();
    let is_planned = |path: &str| planned.iter().any(|change| is_at(&change.path, path));
    let memory = |path: &str| if is_planned(path) { Sent::Different } else { Sent::Same };
    let reading =
        compare::Reading { live: Some(live), is_unlisted: false, returned: |field: &str| live.contains_key(field) };
    let memory = compare::Recall {
        document: &|_, _, _, _| false,
        sent: &|_, path, _| memory(path),
        secret: &|_, path, _| Ok(memory(path)),
    };
    let fields = compare::differences(kind, &own, &reading, &memory).fields;
    // One that is being made has been compared with nothing.
    let is_new = task.seen == 0;
    if !is_new && fields.iter().any(|change| !planned.contains(change)) {
        return None;
    }
    Some(Afresh { write: change(kind.spec(), part, whole, Some(live), None, &fields), fields })
}

/// Is `path` what was planned, or inside of it?
fn is_at(planned: &str, path: &str) -> bool {
    path.strip_prefix(planned).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// What this write of a part changes: mostly everything.
pub fn fields_of(
    kind: &dyn Kind,
    (part, write): (&Part, &Write),
    declared: &Declared,
    (fields, differing): (&[FieldChange], &Differing),
) -> Differing {
    let is_creation = matches!(write, Write::Create(_));
    let is_own = |change: &FieldChange| {
        let of = kind.spec().part_at(&change.path);
        of.name == part.name || is_creation && kind.spec().comes_with_create(of, &declared.fields)
    };
    if fields.iter().all(is_own) {
        return differing.clone();
    }
    fields.iter().filter(|change| is_own(change)).cloned().collect()
}

fn is_empty(part: &Part, declared: &Declared) -> bool {
    part.fields.iter().filter_map(|field| declared.fields.get(field.name)).all(is_zero)
}

/// The fields that the calls of a part carry. Who it is, the call says itself.
fn carried<'s>(spec: &'s Spec, part: &'static Part) -> impl Iterator<Item = &'static Field> + use<'s> {
    let is_address = |name: &str| spec.is_identity(name) || spec.is_server_id(name);
    part.fields.iter().filter(move |field| field.is_declarable() && !is_address(field.name))
}

/// The body of a create.
pub fn creation(spec: &Spec, declared: &Declared) -> Document {
    let mut body = Document::new();
    let identity =
        [(spec.identity.field, Some(&declared.key.name)), (spec.identity.tenant, declared.key.tenant.as_ref())];
    for (field, value) in identity.into_iter().filter_map(|(field, value)| field.zip(value)) {
        body.insert(field.to_owned(), Value::from(&**value));
    }
    let brought = spec.parts.iter().filter(|part| spec.comes_with_create(part, &declared.fields));
    for field in brought.flat_map(|part| carried(spec, part)) {
        let value = declared.fields.get(field.name).map(without_nulls).filter(|value| !value.is_null());
        body.extend(value.map(|value| (field.name.to_owned(), value)));
    }
    body
}

fn change(
    spec: &Spec,
    part: &'static Part,
    declared: &Declared,
    live: Option<&Document>,
    old: Option<&Key>,
    fields: &[FieldChange],
) -> Write {
    if part.how == How::Patch {
        let body = patch(spec, part, declared, live, fields);
        return match old {
            None => Write::Patch(body),
            Some(old) => Write::Overwrite { from: Arc::clone(&old.name), body },
        };
    }
    let mut body = if part.name == MAIN { kept(spec, live) } else { Document::new() };
    for field in carried(spec, part).filter(|field| field.need != Need::AtCreation) {
        let live = live.and_then(|live| live.get(field.name));
        let value = declared.fields.get(field.name).map(|value| merged(field.shape, live, value));
        let is_secret = matches!(field.shape, Shape::Secret);
        let value = value.or_else(|| live.filter(|_| !is_secret).map(|live| writable(field.shape, live)));
        body.extend(value.map(|value| (field.name.to_owned(), value)));
    }
    let name = Arc::clone(&old.unwrap_or(&declared.key).name);
    let is_changed = |path: &str| fields.iter().any(|change| change.path == path);
    twins::carry(part.fields, &declared.fields, &mut body);
    secret::leave_out_kept(&carried(spec, part).collect::<Vec<_>>(), &mut body, &is_changed);
    // Whoever sends it says by what the resource is addressed.
    if let Some(field) = spec.identity.field.filter(|_| part.name == MAIN) {
        body.insert(field.to_owned(), Value::from(&*declared.key.name));
    }
    Write::Overwrite { from: name, body }
}

/// What an overwriting call of the main part carries along: all that was observed, fields that no table knows included,
/// but what the server sets and what other calls write.
fn kept(spec: &Spec, live: Option<&Document>) -> Document {
    let is_kept = |name: &str| {
        spec.field(name).is_none_or(|(part, field)| {
            let is_secret = matches!(field.shape, Shape::Secret);
            part.name == MAIN && field.is_declarable() && field.need != Need::AtCreation && !is_secret
        })
    };
    let live = live.into_iter().flatten().filter(|(name, _)| is_kept(name));
    live.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn patch(
    spec: &Spec,
    part: &'static Part,
    declared: &Declared,
    live: Option<&Document>,
    fields: &[FieldChange],
) -> Document {
    let mut body = Document::new();
    if let Some(identity) = spec.identity.field {
        body.insert(identity.to_owned(), Value::from(&*declared.key.name));
    }
    let concerns = |change: &FieldChange, field: &str| {
        change.path.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    for field in carried(spec, part).filter(|field| field.need != Need::AtCreation) {
        let is_changed = fields.iter().any(|change| concerns(change, field.name));
        if let Some(value) = declared.fields.get(field.name).filter(|_| is_changed) {
            let live = live.and_then(|live| live.get(field.name));
            body.insert(field.name.to_owned(), merged(field.shape, live, value));
        }
    }
    body
}

/// The value to send: what holds values of its own keeps those that the YAML does not name; `null` becomes the empty
/// value.
fn merged(shape: Shape, live: Option<&Value>, declared: &Value) -> Value {
    let entries = || live.and_then(Value::as_object).cloned().unwrap_or_default();
    match (shape, declared) {
        (Shape::Attributes | Shape::Map(_), Value::Object(wanted)) => {
            let mut entries = entries();
            for (name, value) in wanted {
                let value = match (shape, value) {
                    (_, Value::Null) => None,
                    (Shape::Map(shape), value) => Some(merged(*shape, entries.get(name), value)),
                    (_, value) => Some(value.clone()),
                };
                match value {
                    Some(value) => drop(entries.insert(name.clone(), value)),
                    None => drop(entries.remove(name)),
                }
            }
            Value::Object(entries)
        }
        (Shape::Object(fields), Value::Object(wanted)) => {
            let mut object = live.map_or_else(Document::new, |live| without_computed(fields, live));
            for field in fields.iter().filter(|field| field.is_declarable()) {
                if let Some(value) = wanted.get(field.name) {
                    let live = live.and_then(|live| live.get(field.name));
                    object.insert(field.name.to_owned(), merged(field.shape, live, value));
                }
            }
            Value::Object(object)
        }
        (Shape::Items { key, fields, keeps }, Value::Array(wanted)) => {
            let present = live.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let same = |one: &Value, other: &Value| item_id(key, one) == item_id(key, other);
            let item = |to: &Value| merged(Shape::Object(fields), present.iter().find(|from| same(from, to)), to);
            let others = present.iter().filter(|from| keeps && !wanted.iter().any(|to| same(from, to)));
            others.map(|item| writable(Shape::Object(fields), item)).chain(wanted.iter().map(item)).collect()
        }
        (Shape::List(&Shape::Object(fields)), Value::Array(wanted)) => in_order(fields, live, wanted),
        (_, Value::Null) => empty(shape),
        (Shape::Opaque(opaque), value) => opaque.onto(live, value),
        (_, value) => value.clone(),
    }
}

/// What is there once what is declared is written over it: what the YAML leaves out, a field inside of another included,
/// stays.
pub fn onto(spec: &Spec, declared: &Declared, live: &Document) -> Document {
    let mut after = live.clone();
    for (_, field) in spec.fields() {
        if let Some(value) = declared.fields.get(field.name) {
            after.insert(field.name.to_owned(), merged(field.shape, live.get(field.name), value));
        }
    }
    after
}

/// The items of a list without keys. Each carries along what no table knows of the live one that begins as it does.
fn in_order(fields: &'static [Field], live: Option<&Value>, wanted: &[Value]) -> Value {
    let head = |item: &Value| fields.first().and_then(|field| item.get(field.name).cloned());
    let is_unknown = |name: &str| !fields.iter().any(|field| field.name == name);
    let mut left: Vec<&Value> = live.and_then(Value::as_array).into_iter().flatten().collect();
    let item = |to: &Value| {
        let Value::Object(to) = to else { return to.clone() };
        let mut item = to.clone();
        let at =
            left.iter().position(|from| head(from).as_ref() == fields.first().and_then(|field| to.get(field.name)));
        let from = at.map(|at| left.remove(at)).and_then(Value::as_object);
        let more = from.into_iter().flatten().filter(|(name, _)| is_unknown(name));
        item.extend(more.map(|(name, value)| (name.clone(), value.clone())));
        Value::Object(item)
    };
    wanted.iter().map(item).collect()
}

/// A live value as a call may carry it.
fn writable(shape: Shape, live: &Value) -> Value {
    match (shape, live) {
        (Shape::Object(fields), live @ Value::Object(_)) => Value::Object(without_computed(fields, live)),
        (Shape::Items { fields, .. }, Value::Array(items)) => {
            items.iter().map(|item| writable(Shape::Object(fields), item)).collect()
        }
        // In its one order, so that one change is one call, whatever the order of the answer was.
        (Shape::Set | Shape::References(_), live) => canonical(shape, live),
        (_, live) => live.clone(),
    }
}

fn without_computed(fields: &'static [Field], live: &Value) -> Document {
    let field = |name: &str| fields.iter().find(|field| field.name == name);
    // What an answer has in place of a secret is not the secret.
    let is_kept = |field: &Field| field.is_declarable() && !matches!(field.shape, Shape::Secret);
    let kept = live.as_object().into_iter().flatten().filter(|(name, _)| field(name).is_none_or(is_kept));
    let kept = kept.map(|(name, value)| {
        (name.clone(), field(name).map_or_else(|| value.clone(), |field| writable(field.shape, value)))
    });
    kept.collect()
}

/// What `null` sends.
pub fn empty(shape: Shape) -> Value {
    match shape {
        Shape::Text | Shape::Name | Shape::OneOf(_) | Shape::Reference(_) | Shape::Secret => Value::from(""),
        Shape::Flag => Value::from(false),
        Shape::Integer(..) => Value::from(0),
        Shape::Set | Shape::List(_) | Shape::Items { .. } | Shape::References(_) => Value::Array(Vec::new()),
        Shape::Attributes | Shape::Map(_) | Shape::Object(_) => Value::Object(Document::new()),
        Shape::Json | Shape::Opaque(_) => Value::Null,
    }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(entries) => {
            let present = entries.iter().filter(|(_, value)| !value.is_null());
            Value::Object(present.map(|(name, value)| (name.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn items_without_a_key_carry_along_what_no_table_knows_of_them() {
        const ITEM: Shape = Shape::Object(&[Field::name("name"), Field::text("value")]);
        let live = json!([
            { "name": "a", "value": "1", "more": "of the first" },
            { "name": "b", "value": "1", "more": "of b" },
            { "name": "a", "more": "of the second" },
        ]);
        let wanted = json!([{ "name": "b", "value": "2" }, { "name": "a" }, { "name": "c" }, { "name": "a" }]);

        let sent = merged(Shape::List(&ITEM), Some(&live), &wanted);

        let expected = json!([
            { "name": "b", "value": "2", "more": "of b" },
            { "name": "a", "more": "of the first" },
            { "name": "c" },
            { "name": "a", "more": "of the second" },
        ]);
        assert_eq!(sent, expected);
    }
}
