//! What is allowed in the files, and yet rarely meant: warnings that only the sum of them shows.

#![allow(clippy::wildcard_enum_match_arm, reason = "no other shape holds domains")]

use crate::desired::Declared;
use crate::desired::Desired;
use crate::desired::Findings;
use crate::desired::alike;
use crate::desired::check::FileReport;
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
use std::collections::hash_map::Entry;
use std::hash::BuildHasher;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::hash::RandomState;
use std::sync::Arc;

const NO_SECRET_FILE: &str = "is missing: Descope shows the secret of a new one once, so that none is created without a \
                              file to keep it in; name one below the project's `secrets.dir`";

/// What is remarkable of the resources of one file, each by itself, and what tells whether more is of those of all files. Found
/// once, when the file is read: an edit of one file does not look at what the others hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Remarks {
    warnings: Findings,
    /// Is there a name that eyes could take for another one?
    has_odd_names: bool,
    /// One for each domain that is claimed: the same for the same.
    claims: Vec<u64>,
}

/// Finds them.
pub fn of(kinds: &[&'static dyn Kind], resources: &[Arc<Declared>]) -> Remarks {
    let mut remarks = Remarks { has_odd_names: !resources.iter().all(|one| is_plain(&one.key)), ..Remarks::default() };
    for kind in kinds {
        let of_kind = || resources.iter().filter(|one| one.key.kind == kind.name());
        if of_kind().next().is_none() {
            continue;
        }
        let fields = fields(*kind);
        let with_domains = with_domains(&fields);
        for one in of_kind() {
            blanks(one, &fields, &mut remarks.warnings);
            if kind.spec().shows_secret && one.secret_file.is_none() {
                remarks.warnings.push(about(one, "secretFile", NO_SECRET_FILE.to_owned()));
            }
            let mut found = Vec::new();
            claims(&with_domains, &one.fields, false, &mut found);
            for claim in found {
                if claim.lower != claim.written.trim() {
                    let written = shown(claim.written);
                    let message = format!("{written} is not in lower case, in which Descope may keep it; write it so");
                    remarks.warnings.push(about(one, claim.field, message));
                }
                remarks.claims.push(claim.hash(kind.name()));
            }
        }
    }
    remarks
}

/// Adds those of all files.
pub fn add(kinds: &[&'static dyn Kind], files: &[Arc<FileReport>], merged: &mut Merged) {
    let Merged { desired, warnings, .. } = merged;
    for file in files {
        warnings.add(&file.remarks.warnings);
    }
    if files.iter().any(|file| file.remarks.has_odd_names) {
        look_alikes(desired, warnings);
    }
    let mut claims: Vec<u64> = files.iter().flat_map(|file| &file.remarks.claims).copied().collect();
    claims.sort_unstable();
    if claims.is_sorted_by(|one, next| one < next) {
        return;
    }
    for kind in kinds {
        let with_domains = with_domains(&fields(*kind));
        let count = if with_domains.is_empty() { 0 } else { desired.resources.count_of(kind.name()) };
        let mut holders = HashMap::with_capacity(count);
        for one in desired.of_kind(kind.name()).take(count) {
            domains(one, &with_domains, &mut holders, warnings);
        }
    }
}

fn fields(kind: &dyn Kind) -> Vec<&'static Field> {
    kind.spec().parts.iter().flat_map(|part| part.fields).collect()
}

fn with_domains(fields: &[&'static Field]) -> Vec<&'static Field> {
    fields.iter().copied().filter(|field| any_domains(field)).collect()
}

fn is_plain(key: &Key) -> bool {
    alike::is_plain(&key.name) && key.tenant.as_deref().is_none_or(alike::is_plain)
}

/// Identities that eyes take for one another.
fn look_alikes(desired: &Desired, warnings: &mut Findings) {
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

/// A domain as it is written, and as Descope takes it.
struct Claim<'a> {
    field: &'static str,
    is_nested: bool,
    written: &'a str,
    lower: Cow<'a, str>,
}

impl Claim<'_> {
    /// The same for the same domain in the same field of a kind, whatever file it stands in.
    fn hash(&self, kind: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        (kind, self.field, &self.lower).hash(&mut hasher);
        hasher.finish()
    }
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
fn domains<'a>(
    one: &'a Declared,
    fields: &[&'static Field],
    holders: &mut HashMap<u64, &'a Declared>,
    warnings: &mut Findings,
) {
    let mut found = Vec::new();
    claims(fields, &one.fields, false, &mut found);
    for claim in found {
        // By hash, for a big repo: who it is the claims of the holder say.
        let holder = match holders.entry(claim.hash(one.key.kind)) {
            Entry::Vacant(free) => {
                free.insert(one);
                continue;
            }
            Entry::Occupied(holder) => *holder.get(),
        };
        let Claim { field, is_nested, written, lower } = claim;
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
