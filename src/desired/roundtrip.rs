//! A property of the whole reading side: whatever can be declared is read back as it was written.

use crate::desired::check::Checker;
use crate::desired::merge;
use crate::desired::merge::Merged;
use crate::desired::secrets::Fence;
use crate::desired::testing::KINDS;
use proptest::collection::btree_map;
use proptest::collection::btree_set;
use proptest::option;
use proptest::prelude::*;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

type Resource = (&'static str, Map<String, Value>);

/// Texts that YAML likes to misread, and anything else.
fn text() -> impl Strategy<Value = String> {
    const ODD: &[&str] = &[
        "no", "null", "~", "12", "1e3", "0x1f", ".inf", "true", "<<", "- a", "a: b", "# x", "*x", "&x", "'", "\"", " ",
    ];
    // The writer of block style does not quote the line breaks of Unicode.
    prop_oneof![prop::sample::select(ODD).prop_map(str::to_owned), "[a-z]{1,6}", "[^\\x00\u{85}\u{2028}\u{2029}]{0,8}"]
}

fn name() -> impl Strategy<Value = String> {
    text().prop_filter("identities are not empty", |text| !text.is_empty())
}

/// The writer of block style leaves `<<` without quotes, and then it is a merge key.
fn attribute_name() -> impl Strategy<Value = String> {
    name().prop_filter("not a merge key", |name| name != "<<")
}

fn names() -> impl Strategy<Value = Value> {
    btree_set(name(), 0..3).prop_map(|names| json!(names))
}

fn attribute() -> impl Strategy<Value = Value> {
    prop_oneof![
        text().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        prop::collection::vec(text(), 0..3).prop_map(Value::from),
        Just(Value::Null),
    ]
}

fn fields(optional: Vec<(&'static str, Option<Value>)>) -> Map<String, Value> {
    optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn role() -> impl Strategy<Value = Resource> {
    (name(), option::of(name()), option::of(text()), option::of(names()), option::of(any::<bool>())).prop_map(
        |(name, tenant, description, permissions, default)| {
            let all = vec![
                ("name", Some(json!(name))),
                ("tenantId", tenant.map(Value::from)),
                ("description", description.map(Value::from)),
                ("permissionNames", permissions),
                ("default", default.map(Value::from)),
            ];
            ("roles", fields(all))
        },
    )
}

fn tenant() -> impl Strategy<Value = Resource> {
    (
        name(),
        name(),
        option::of(btree_map(attribute_name(), attribute(), 1..4)),
        option::of(names()),
        option::of(any::<bool>()),
    )
        .prop_map(|(id, name, attributes, roles, protected)| {
            let all = vec![
                ("id", Some(json!(id))),
                ("name", Some(json!(name))),
                ("customAttributes", attributes.map(|attributes| json!(attributes))),
                ("defaultRoles", roles),
                ("protected", protected.map(Value::from)),
            ];
            ("tenants", fields(all))
        })
}

/// A file holds one document for each resource, in block or in flow style.
fn render(resource: &Resource, is_block: bool) -> String {
    let document = json!({ resource.0: [resource.1] });
    let text = if is_block { serde_yaml::to_string(&document).unwrap() } else { format!("{document}\n") };
    format!("---\n{text}")
}

fn read(files: &[String]) -> Merged {
    let fence = Fence::default();
    let checker = Checker { kinds: KINDS, fence: &fence };
    let numbered = files.iter().enumerate().filter(|(_, text)| !text.is_empty());
    let reports: Vec<_> =
        numbered.map(|(n, text)| Arc::new(checker.check(&Arc::from(format!("{n}.yaml")), text))).collect();
    merge::merge(KINDS, &reports)
}

/// As it was written: identity, fields and directives in one document again.
fn written(merged: &Merged) -> BTreeMap<String, Value> {
    let resources = merged.desired.resources.values();
    let documents = resources.map(|one| {
        let mut all = one.fields.to_document();
        let identity = if one.key.kind == "tenants" { "id" } else { "name" };
        all.insert(identity.to_owned(), json!(&*one.key.name));
        if let Some(tenant) = &one.key.tenant {
            all.insert("tenantId".to_owned(), json!(&**tenant));
        }
        if let Some(protected) = one.protected {
            all.insert("protected".to_owned(), json!(protected));
        }
        (format!("{:?}", one.key), Value::Object(all))
    });
    documents.collect()
}

proptest! {
    #[test]
    fn what_is_declared_is_read_whatever_the_files_and_their_order(
        resources in prop::collection::vec((prop_oneof![role(), tenant()], 0..4_usize, any::<bool>()), 1..12),
    ) {
        let mut unique: BTreeMap<String, (Resource, usize, bool)> = BTreeMap::new();
        for (resource, file, is_block) in resources {
            let identity = [resource.1.get("id"), resource.1.get("name"), resource.1.get("tenantId")];
            let identity = format!("{}{:?}", resource.0, if identity[0].is_some() { &identity[..1] } else { &identity[1..] });
            unique.insert(identity, (resource, file, is_block));
        }
        let mut files = vec![String::new(); 4];
        let mut all = vec![String::new()];
        for (resource, file, is_block) in unique.values() {
            files[*file] += &render(resource, *is_block);
        }
        // The same in one file and in the other order and style.
        for (resource, _, is_block) in unique.values().rev() {
            all[0] += &render(resource, !is_block);
        }

        let (split, whole) = (read(&files), read(&all));

        prop_assert_eq!(&split.errors[..], &[]);
        prop_assert_eq!(&whole.errors[..], &[]);
        prop_assert_eq!(written(&split), written(&whole));
        let mut expected: Vec<_> = unique.into_values().map(|((_, fields), ..)| Value::Object(fields).to_string()).collect();
        let mut found: Vec<_> = written(&split).into_values().map(|document| document.to_string()).collect();
        expected.sort();
        found.sort();
        prop_assert_eq!(found, expected);
    }
}
