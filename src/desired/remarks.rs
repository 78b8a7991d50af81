//! What is allowed in the files, and yet rarely meant: warnings that only the sum of them shows.

#![allow(clippy::wildcard_enum_match_arm, reason = "no other shape holds domains")]

use crate::desired::Declared;
use crate::desired::Desired;
use crate::desired::Findings;
use crate::desired::alike;
use crate::desired::merge::Merged;
use crate::desired::merge::about;
use crate::desired::merge::at;
use crate::desired::yaml::shown;
use crate::resource::Field;
use crate::resource::Fields;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Shape;
use crate::resource::legible::exact;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hash::RandomState;

const NO_SECRET_FILE: &str = "is missing: Descope shows the secret of a new one once, so that none is created without a \
                              file to keep it in; name one below the project's `secrets.dir`";

/// Adds them.
pub fn add(kinds: &[&'static dyn Kind], merged: &mut Merged) {
    let Merged { desired, warnings, .. } = merged;
    look_alikes(desired, warnings);
    for kind in kinds {
        let fields: Vec<&'static Field> = kind.spec().parts.iter().flat_map(|part| part.fields).collect();
        let with_domains: Vec<&'static Field> = fields.iter().copied().filter(|field| any_domains(field)).collect();
        let count = if with_domains.is_empty() { 0 } else { desired.resources.count_of(kind.name()) };
        let mut holders = Holders { known: HashMap::with_capacity(count), ..Holders::default() };
        for one in desired.of_kind(kind.name()) {
            blanks(one, &fields, warnings);
            if kind.spec().shows_secret && one.secret_file.is_none() {
                warnings.push(about(one, "secretFile", NO_SECRET_FILE.to_owned()));
            }
            if !with_domains.is_empty() {
                domains(one, &with_domains, &mut holders, warnings);
            }
        }
    }
}

/// Identities that eyes take for one another.
fn look_alikes(desired: &Desired, warnings: &mut Findings) {
    let is_plain = |key: &Key| alike::is_plain(&key.name) && key.tenant.as_deref().is_none_or(alike::is_plain);
    if desired.resources.keys().all(is_plain) {
        return;
    }
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
fn blanks(one: &Declared, fields: &[&Field], warnings: &mut Findings) {
    const MESSAGE: &str = "begins or ends with a blank, which Descope may drop; take it out";
    if has_outer_blank(&one.key.name) {
        let message = format!("its name {} {MESSAGE}", exact(&one.key.name));
        warnings.push(about(one, "", message));
    }
    for (name, value) in one.fields.iter() {
        // In this order: hardly any has one.
        if !any_text(value, &has_outer_blank) {
            continue;
        }
        let Some(field) = fields.iter().find(|field| field.name == name) else { continue };
        if !matches!(field.shape, Shape::Json | Shape::Opaque(_) | Shape::Secret) {
            warnings.push(about(one, field.name, MESSAGE.to_owned()));
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

/// Who claims which domain. By hash, for a big repo: who it is `claims` says.
#[derive(Default)]
struct Holders<'a> {
    hasher: RandomState,
    known: HashMap<u64, &'a Declared>,
}

/// A domain as it is written, and as Descope takes it.
struct Claim<'a> {
    field: &'static str,
    is_nested: bool,
    written: &'a str,
    lower: Cow<'a, str>,
}

fn any_domains(field: &Field) -> bool {
    match field.shape {
        Shape::Object(fields) | Shape::Items { fields, .. } => fields.iter().any(any_domains),
        _ => field.is_domains,
    }
}

/// The domains that a resource claims.
fn claims<'a>(fields: &[&'static Field], document: &'a dyn Fields, is_nested: bool, found: &mut Vec<Claim<'a>>) {
    for field in fields {
        match (field.shape, document.get(field.name)) {
            (Shape::Set, Some(Value::Array(items))) if field.is_domains => {
                let claim = |written: &'a str| {
                    let lower = lower_case(written.trim());
                    Claim { field: field.name, is_nested, written, lower }
                };
                found.extend(items.iter().filter_map(Value::as_str).map(claim));
            }
            (Shape::Object(fields), Some(Value::Object(object))) => {
                claims(&fields.iter().collect::<Vec<_>>(), object, true, found);
            }
            (Shape::Items { fields, .. }, Some(Value::Array(items))) => {
                let fields: Vec<&Field> = fields.iter().collect();
                items.iter().filter_map(Value::as_object).for_each(|item| claims(&fields, item, true, found));
            }
            _ => {}
        }
    }
}

/// A domain belongs to one tenant, and to Descope its letter case means nothing. What calls write that carry one another's
/// values stands in a tenant several times.
fn domains<'a>(one: &'a Declared, fields: &[&'static Field], holders: &mut Holders<'a>, warnings: &mut Findings) {
    let mut found = Vec::new();
    claims(fields, &one.fields, false, &mut found);
    for Claim { field, is_nested, written, lower } in found {
        if lower != written.trim() {
            let message = format!("{} is not in lower case, in which Descope may keep it; write it so", shown(written));
            warnings.push(about(one, field, message));
        }
        let hash = holders.hasher.hash_one((field, &lower));
        let Some(holder) = holders.known.get(&hash) else {
            holders.known.insert(hash, one);
            continue;
        };
        let mut others = Vec::new();
        claims(fields, &holder.fields, false, &mut others);
        let is_same = others.iter().any(|other| other.field == field && other.lower == lower);
        if !is_same || is_nested && holder.key == one.key {
            continue;
        }
        let (domain, place) = (shown(written), at(&holder.place));
        let message = if holder.key == one.key {
            format!("{domain} stands here twice, but for its letter case or blanks")
        } else {
            format!("{domain} is also claimed by {}, at {place}; Descope gives a domain to one", holder.key)
        };
        warnings.push(about(one, field, message));
    }
}
