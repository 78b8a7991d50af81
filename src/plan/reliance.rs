//! The turn of the calls of one resource: a switch that relies on what another of them writes goes there once that is
//! written, and leaves before it is taken away.

use super::FieldChange;
use crate::resource::Field;
use crate::resource::Part;
use crate::resource::Shape;
use crate::resource::Spec;
use crate::resource::Write;
use serde_json::Value;
use std::collections::BTreeSet;

/// A call that may not go without another one, which goes before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reliance {
    /// The part that it writes.
    pub part: &'static str,
    /// The part that the other one writes.
    pub on: &'static str,
    /// The switch that says so.
    pub switch: &'static str,
}

/// Puts the writes of one resource into their turn, and says which of them may not go without which other one.
pub fn in_turn(spec: &Spec, writes: &mut Vec<(&'static Part, Write)>, fields: &[FieldChange]) -> Vec<Reliance> {
    let mut found = Vec::new();
    if writes.len() < 2 {
        return found;
    }
    for change in fields {
        let part = spec.part_at(&change.path);
        let Some(switch) = at(part.fields, &change.path) else { continue };
        let Some(relies) = switch.relies else { continue };
        let turned = relies.on.iter().filter(|path| fields.iter().any(|change| concerns(&change.path, path)));
        let bases = turned.filter_map(|path| Some(spec.field_at(path)?.0.name));
        let bases: Vec<&str> = bases.filter(|base| *base != part.name).collect();
        let is_base = |(each, _): &(&'static Part, Write)| bases.contains(&each.name);
        let (first, last) = (writes.iter().position(is_base), writes.iter().rposition(is_base));
        let own = writes.iter().position(|(each, _)| each.name == part.name);
        let Some(((first, last), own)) = first.zip(last).zip(own) else { continue };
        let goes_there = (change.to == Value::Bool(true)) == relies.while_on;
        let others: Vec<&'static str> = writes.iter().filter(|each| is_base(each)).map(|(each, _)| each.name).collect();
        let reliance = |other: &'static str| {
            let (part, on) = if goes_there { (part.name, other) } else { (other, part.name) };
            Reliance { part, on, switch: switch.name }
        };
        found.extend(others.into_iter().map(reliance));
        if goes_there && own < last {
            writes[own..=last].rotate_left(1);
        } else if !goes_there && own > first {
            writes[first..=own].rotate_right(1);
        }
    }
    found
}

/// The parts with a switch that goes where it relies on something that one of the parts `on` was to write.
pub fn relying(spec: &Spec, fields: &[FieldChange], on: &[&str]) -> BTreeSet<&'static str> {
    let goes_there = |change: &&FieldChange| {
        let switch = at(spec.part_at(&change.path).fields, &change.path);
        let relies = switch.and_then(|switch| switch.relies);
        relies.is_some_and(|relies| {
            let is_on = |path: &&str| spec.field_at(path).is_some_and(|(part, _)| on.contains(&part.name));
            (change.to == Value::Bool(true)) == relies.while_on && relies.on.iter().any(is_on)
        })
    };
    fields.iter().filter(goes_there).map(|change| spec.part_at(&change.path).name).collect()
}

/// Is the change of what is at this path, or of some item of its list?
fn concerns(change: &str, path: &str) -> bool {
    let path = path.split('[').next().unwrap_or(path);
    change.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The field at this path, inside of mappings.
fn at(fields: &'static [Field], path: &str) -> Option<&'static Field> {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let field = fields.iter().find(|field| field.name == name)?;
    match (rest, field.shape) {
        (None, _) => Some(field),
        (Some(rest), Shape::Object(inside)) => at(inside, rest),
        (Some(_), _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource;
    use crate::resource::Document;
    use crate::resource::MAIN;
    use serde_json::json;

    #[test]
    fn a_switch_relies_on_what_was_to_be_written_only_where_it_goes_there() {
        let spec = resource::kind("tenants").unwrap().spec();
        let change = |path: &'static str, to: bool| FieldChange { path: path.into(), from: json!(!to), to: json!(to) };
        for (path, to, on, expected) in [
            ("enforceSSO", true, "sso", vec!["enforceSSO"]),
            ("enforceSSO", true, "settings", vec!["enforceSSO"]),
            ("enforceSSO", false, "sso", vec![]),
            ("enforceSSO", true, "defaultRoles", vec![]),
            ("disabled", true, "sso", vec![]),
        ] {
            let found = relying(spec, &[change(path, to)], &[on]);

            assert_eq!(found.into_iter().collect::<Vec<_>>(), expected, "{path} {to} {on}");
        }
    }

    #[test]
    fn what_relies_on_another_call_goes_after_it_and_leaves_before_it() {
        let spec = resource::kind("tenants").unwrap().spec();
        let turn = |parts: &[&str], path: &'static str, to: bool| {
            let part = |name: &&str| (spec.part(name).unwrap(), Write::Patch(Document::new()));
            let mut writes: Vec<(&'static Part, Write)> = parts.iter().map(part).collect();
            let change = FieldChange { path: path.into(), from: json!(!to), to: json!(to) };
            let other = |path: &'static str| FieldChange { path: path.into(), from: json!(null), to: json!("saml") };
            let has = |part: &str| parts.contains(&part);
            let others = [(has("sso"), "sso[].authType"), (has("settings"), "settings.authType")];
            let others = others.into_iter().filter(|(is_there, _)| *is_there).map(|(_, path)| other(path));
            let changes: Vec<FieldChange> = [change, other("settings.enabled")].into_iter().chain(others).collect();
            let found = in_turn(spec, &mut writes, &changes);
            let word = |part: &'static str| if part == MAIN { "main" } else { part };
            let order = writes.iter().map(|(part, _)| word(part.name)).collect::<Vec<_>>().join(" ");
            let needs = found.iter().map(|one| format!("{} on {}", word(one.part), word(one.on)));
            (order, needs.collect::<Vec<_>>().join(", "))
        };
        let cases = [
            (&["", "sso", "enforceSSO"][..], "enforceSSO", true, ("main sso enforceSSO", "enforceSSO on sso")),
            (
                &["settings", "sso", "enforceSSO"],
                "enforceSSO",
                true,
                ("settings sso enforceSSO", "enforceSSO on settings, enforceSSO on sso"),
            ),
            (
                &["", "settings", "sso", "enforceSSO"],
                "enforceSSO",
                false,
                ("main enforceSSO settings sso", "settings on enforceSSO, sso on enforceSSO"),
            ),
            (
                &["", "passwordSettings", "sso"],
                "passwordSettings.enabled",
                false,
                ("main sso passwordSettings", "passwordSettings on sso"),
            ),
            (
                &["passwordSettings", "sso"],
                "passwordSettings.enabled",
                true,
                ("passwordSettings sso", "sso on passwordSettings"),
            ),
            (&["defaultRoles", "enforceSSO"], "enforceSSO", true, ("defaultRoles enforceSSO", "")),
            (&["defaultRoles", "sso"], "defaultRoles", true, ("defaultRoles sso", "")),
        ];
        for (parts, path, to, (order, needs)) in cases {
            assert_eq!(turn(parts, path, to), (order.to_owned(), needs.to_owned()), "{parts:?} {path} {to}");
        }
    }
}
