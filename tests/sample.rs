//! `config/sample`, which `demo` runs and newcomers copy: valid, complete, and true to itself.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use descope_gitops::resource;
use descope_gitops::resource::Field;
use descope_gitops::resource::Shape;
use serde::Deserialize;
use serde_yaml::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Every item of this top-level key in the sample.
fn declared(kind: &str) -> Vec<Value> {
    fn walk(folder: &Path, kind: &str, found: &mut Vec<Value>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, kind, found);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                let text = fs::read_to_string(&path).unwrap();
                for document in serde_yaml::Deserializer::from_str(&text) {
                    let document = Value::deserialize(document).unwrap();
                    let value = document[kind].clone();
                    let items = value.as_sequence().cloned();
                    found.extend(
                        items.unwrap_or_else(|| value.as_mapping().map(|_| value.clone()).into_iter().collect()),
                    );
                }
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("config/sample"), kind, &mut found);
    found
}

/// The strings that the items have under this field, be it one or a list.
fn values(items: &[Value], field: &str) -> BTreeSet<String> {
    let of = |item: &Value| {
        let list = item[field].as_sequence().cloned().unwrap_or_else(|| vec![item[field].clone()]);
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    items.iter().flat_map(of).collect()
}

#[test]
fn the_sample_is_valid() {
    let output = Command::new(env!("CARGO_BIN_EXE_descope-gitops"))
        .args(["validate", "--source", "config/sample"])
        .output()
        .unwrap();

    assert!(output.status.success(), "{output:?}");
}

/// A secret is a reference into the `secrets` of a project, which a sample has not.
fn is_shown(field: &Field) -> bool {
    field.is_declarable() && !matches!(field.shape, Shape::Secret)
}

/// Those of the fields, at any depth, that none of the items has.
fn unused(fields: &'static [Field], path: &str, items: &[&Value], found: &mut Vec<String>) {
    for field in fields.iter().filter(|field| is_shown(field)) {
        let values: Vec<&Value> = items.iter().filter_map(|item| item.get(field.name)).collect();
        let path = format!("{path}.{}", field.name);
        if values.is_empty() {
            found.push(path);
        } else {
            unused_inside(field.shape, &path, &values, found);
        }
    }
}

fn unused_inside(shape: Shape, path: &str, values: &[&Value], found: &mut Vec<String>) {
    let elements = || values.iter().filter_map(|value| value.as_sequence()).flatten().collect::<Vec<_>>();
    match shape {
        Shape::Object(fields) => unused(fields, path, values, found),
        Shape::Items { fields, .. } => unused(fields, path, &elements(), found),
        Shape::List(shape) => unused_inside(*shape, path, &elements(), found),
        Shape::Map(shape) => {
            let named: Vec<&Value> =
                values.iter().filter_map(|value| value.as_mapping()).flat_map(|map| map.values()).collect();
            unused_inside(*shape, path, &named, found);
        }
        Shape::Text
        | Shape::Name
        | Shape::Flag
        | Shape::Integer(..)
        | Shape::OneOf(_)
        | Shape::Set
        | Shape::Attributes
        | Shape::Json
        | Shape::Reference(_)
        | Shape::References(_)
        | Shape::Opaque(_)
        | Shape::Secret => {}
    }
}

/// Fields inside of others were in no sample, and so in no test that walks it.
#[test]
fn the_sample_uses_every_field_at_any_depth() {
    let mut found = Vec::new();
    for kind in resource::ALL {
        let (spec, items) = (kind.spec(), declared(kind.name()));
        if spec.identity.bare.is_some() {
            assert!(!items.is_empty(), "no {}", kind.name());
            continue;
        }
        let items: Vec<&Value> = items.iter().collect();
        for part in spec.parts {
            unused(part.fields, kind.name(), &items, &mut found);
        }
        found.retain(|path| path.split_once('.').is_none_or(|(_, field)| !spec.is_server_id(field)));

        let beside = [
            ("protected", spec.verbs.delete),
            ("renamedFrom", kind.has_rename()),
            ("cascadeDelete", spec.verbs.cascade),
            ("secretFile", spec.shows_secret),
        ];
        let is_unused = |name: &str| items.iter().all(|item| item.get(name).is_none());
        let missing = beside.iter().filter(|(name, is_taken)| *is_taken && is_unused(name));
        found.extend(missing.map(|(name, _)| format!("{}.{name}", kind.name())));
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn what_the_sample_refers_to_is_declared() {
    let (permissions, roles, tenants) = (declared("permissions"), declared("roles"), declared("tenants"));
    let project_roles: Vec<Value> = roles.iter().filter(|role| role.get("tenantId").is_none()).cloned().collect();

    assert!(values(&roles, "permissionNames").is_subset(&values(&permissions, "name")));
    assert!(values(&roles, "tenantId").is_subset(&values(&tenants, "id")));
    assert!(values(&tenants, "parent").is_subset(&values(&tenants, "id")));
    assert!(values(&tenants, "defaultRoles").is_subset(&values(&project_roles, "name")));
    assert!(!values(&roles, "tenantId").is_empty() && !values(&tenants, "parent").is_empty());
}
