//! What is allowed in the files, and yet rarely meant: warnings that only the sum of them shows.

use crate::desired::Declared;
use crate::desired::alike;
use crate::desired::merge::Merged;
use crate::desired::merge::about;
use crate::desired::merge::at;
use crate::desired::yaml::shown;
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Shape;
use crate::resource::legible::exact;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::Arc;

const NO_SECRET_FILE: &str = "is missing: Descope shows the secret of a new one once, so that none is created without a \
                              file to keep it in; name one below the project's `secrets.dir`";

/// Adds them.
pub fn add(kinds: &[&'static dyn Kind], merged: &mut Merged) {
    look_alikes(merged);
    let resources: Vec<Arc<Declared>> = merged.desired.resources.values().cloned().collect();
    for kind in kinds {
        let fields: Vec<&Field> = kind.spec().parts.iter().flat_map(|part| part.fields).collect();
        let mut holders: HashMap<Cow<'_, str>, &Declared> = HashMap::new();
        for one in resources.iter().filter(|one| one.key.kind == kind.name()) {
            blanks(one, &fields, merged);
            if kind.spec().shows_secret && one.secret_file.is_none() {
                merged.warnings.push(about(one, "secretFile", NO_SECRET_FILE.to_owned()));
            }
            for field in fields.iter().filter(|field| field.is_domains) {
                domains(one, field, &mut holders, merged);
            }
        }
    }
}

/// Identities that eyes take for one another.
fn look_alikes(merged: &mut Merged) {
    let Merged { desired, warnings, .. } = merged;
    // By hash, for a big repo: whether two are alike `difference` says.
    let mut known: HashMap<u64, &Declared> = HashMap::with_capacity(desired.resources.len());
    let hasher = RandomState::new();
    for one in desired.resources.values() {
        let Key { kind, tenant, name } = &one.key;
        let seen = hasher.hash_one((*kind, tenant.as_deref().map(alike::seen), alike::seen(name)));
        let Some(other) = known.insert(seen, one) else { continue };
        let (first, again) = if one.place < other.place { (&**one, other) } else { (other, &**one) };
        let (mine, others) = (again.key.id(), first.key.id());
        let Some(what) = alike::difference(&mine, &others) else { continue };
        let message = format!(
            "{} differs from {}, at {}, only in {what}; both are managed, if that is meant",
            exact(&mine),
            exact(&others),
            at(&first.place)
        );
        warnings.push(about(again, "", message));
    }
}

fn has_outer_blank(text: &str) -> bool {
    // A block text ends with a line end.
    let is_blank = |c: Option<char>| c.is_some_and(|c| c.is_whitespace() && c != '\n');
    is_blank(text.chars().next()) || is_blank(text.chars().next_back())
}

/// Texts that a server may trim: then they would never be equal.
fn blanks(one: &Declared, fields: &[&Field], merged: &mut Merged) {
    const MESSAGE: &str = "begins or ends with a blank, which Descope may drop; take it out";
    if has_outer_blank(&one.key.name) {
        let message = format!("its name {} {MESSAGE}", exact(&one.key.name));
        merged.warnings.push(about(one, "", message));
    }
    for field in fields {
        let Some(value) = one.fields.get(field.name) else { continue };
        let is_kept = matches!(field.shape, Shape::Json | Shape::Opaque(_) | Shape::Secret);
        if !is_kept && any_text(value, &has_outer_blank) {
            merged.warnings.push(about(one, field.name, MESSAGE.to_owned()));
        }
    }
}

fn any_text(value: &Value, is_it: &impl Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => is_it(text),
        Value::Array(items) => items.iter().any(|item| any_text(item, is_it)),
        Value::Object(fields) => fields.values().any(|value| any_text(value, is_it)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn lower_case(text: &str) -> Cow<'_, str> {
    let is_lower = |byte: u8| byte.is_ascii() && !byte.is_ascii_uppercase();
    if text.bytes().all(is_lower) { Cow::Borrowed(text) } else { Cow::Owned(text.to_lowercase()) }
}

/// A domain belongs to one tenant, and to Descope its letter case means nothing.
fn domains<'a>(
    one: &'a Declared,
    field: &Field,
    holders: &mut HashMap<Cow<'a, str>, &'a Declared>,
    merged: &mut Merged,
) {
    let Some(Value::Array(items)) = one.fields.get(field.name) else { return };
    for domain in items.iter().filter_map(Value::as_str) {
        let lower = lower_case(domain.trim());
        if lower != domain.trim() {
            let message = format!("{} is not in lower case, in which Descope may keep it; write it so", shown(domain));
            merged.warnings.push(about(one, field.name, message));
        }
        match holders.get(&lower) {
            None => drop(holders.insert(lower, one)),
            Some(holder) => {
                let (domain, place) = (shown(domain), at(&holder.place));
                let message = if holder.key == one.key {
                    format!("{domain} stands here twice, but for its letter case or blanks")
                } else {
                    format!("{domain} is also claimed by {}, at {place}; Descope gives a domain to one", holder.key)
                };
                merged.warnings.push(about(one, field.name, message));
            }
        }
    }
}
