//! `config/sample`, which `demo` runs and newcomers copy: valid, complete, and true to itself.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use descope_gitops::resource;
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

#[test]
fn the_sample_uses_every_field() {
    for kind in resource::ALL {
        let items = declared(kind.name());
        // A secret is a reference into the `secrets` of a project, which a sample has not.
        let is_shown =
            |field: &resource::Field| field.is_declarable() && !matches!(field.shape, resource::Shape::Secret);
        let named = kind.spec().fields().filter(|(_, field)| is_shown(field)).map(|(_, field)| field.name);
        let mut fields: Vec<&str> = named.filter(|field| !kind.spec().is_server_id(field)).collect();
        if kind.spec().identity.bare.is_some() {
            assert!(!items.is_empty(), "no {}", kind.name());
            continue;
        }
        fields.extend(kind.spec().verbs.delete.then_some("protected"));
        fields.extend(kind.has_rename().then_some("renamedFrom"));
        fields.extend(kind.spec().verbs.cascade.then_some("cascadeDelete"));
        fields.extend(kind.spec().shows_secret.then_some("secretFile"));

        for field in fields {
            assert!(items.iter().any(|item| item.get(field).is_some()), "no {field} in {}", kind.name());
        }
    }
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
