//! Resources of one side, drawn at random.

use super::*;
use proptest::prelude::*;

fn names(prefix: &'static str, most: usize) -> impl Strategy<Value = BTreeSet<String>> {
    proptest::collection::btree_set((0..most).prop_map(move |n| format!("{prefix}{n}")), 0..most)
}

/// `None` leaves the field out.
fn maybe(value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Option<Value>> {
    proptest::option::of(value).boxed()
}

fn text() -> BoxedStrategy<Value> {
    prop_oneof![Just(json!("")), Just(json!("one")), Just(json!("two")), Just(Value::Null)].boxed()
}

fn flag() -> BoxedStrategy<Value> {
    any::<bool>().prop_map(Value::from).boxed()
}

fn attributes() -> BoxedStrategy<Value> {
    let value =
        prop_oneof![Just(json!("x")), Just(json!(7)), Just(json!(["b", "a"])), Just(json!(true)), Just(Value::Null)];
    proptest::collection::btree_map(proptest::sample::select(vec!["a", "b", "c"]), value, 1..4)
        .prop_map(|map| json!(map))
        .boxed()
}

fn with(fields: Vec<(&'static str, Option<Value>)>) -> Value {
    Value::Object(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}

prop_compose! {
    pub fn permission()(description in maybe(text())) -> Value {
        with(vec![("description", description)])
    }
}

prop_compose! {
    pub fn role(permissions: BTreeSet<String>)(
        description in maybe(text()),
        granted in proptest::option::of(proptest::sample::subsequence(permissions.iter().cloned().collect::<Vec<_>>(), 0..=permissions.len())),
        default in maybe(flag()),
    ) -> Value {
        with(vec![("description", description), ("permissionNames", granted.map(|names| json!(names))), ("default", default)])
    }
}

prop_compose! {
    pub fn tenant(roles: Vec<String>)(
        name in text().prop_filter("a tenant needs a name", |name| !resource::fold::is_zero(name)),
        domains in proptest::option::of(names("d", 3)),
        custom in maybe(attributes()),
        disabled in maybe(flag()),
        inheritance in maybe(prop_oneof![Just(json!("")), Just(json!("none"))].boxed()),
        defaults in proptest::option::of(proptest::sample::subsequence(roles.clone(), 0..=roles.len())),
    ) -> Value {
        with(vec![
            ("name", Some(name)),
            ("selfProvisioningDomains", domains.map(|names| json!(names))),
            ("customAttributes", custom),
            ("disabled", disabled),
            ("roleInheritance", inheritance),
            ("defaultRoles", defaults.map(|names| json!(names))),
        ])
    }
}

/// Groups whose members get roles.
pub fn application(roles: Vec<String>) -> impl Strategy<Value = Value> {
    let some = proptest::sample::select(vec![0usize, 0, 0, 0, 1, 2]);
    let roles = some.prop_flat_map(move |most| proptest::sample::subsequence(roles.clone(), 0..=most));
    (maybe(text()), proptest::option::of(roles)).prop_map(|(description, roles)| {
        let named = |roles: Vec<String>| roles.into_iter().map(|name| json!({ "name": name })).collect::<Vec<_>>();
        let groups = roles.map(|roles| json!([{ "name": "g", "roles": named(roles) }]));
        with(vec![
            ("type", Some(json!("saml"))),
            ("name", Some(json!("App"))),
            ("description", description),
            ("groupsMapping", groups),
        ])
    })
}

prop_compose! {
    /// Rules of which Descope shows some or not, and which are reset where a write does not carry them.
    pub fn passwords()(
        enabled in maybe(flag()),
        shown in proptest::collection::vec(proptest::bool::weighted(0.8), 3),
    ) -> Value {
        let rule = |at: usize, value: Value| shown[at].then_some(value);
        with(vec![
            ("enabled", enabled),
            ("anyLetter", rule(0, json!(true))),
            ("disallowEmailMatch", rule(1, json!(true))),
            ("disallowedCharacters", rule(2, json!("<>"))),
        ])
    }
}

/// No two tenants have a name or a domain in common.
fn apart(id: &str, mut fields: Value) -> Value {
    let own = |value: &Value| json!(format!("{} of {id}", value.as_str().unwrap_or_default()));
    fields["name"] = own(&fields["name"]);
    if let Some(Value::Array(domains)) = fields.get_mut("selfProvisioningDomains") {
        for domain in domains {
            *domain = own(domain);
        }
    }
    fields
}

/// A self-consistent set of resources: everything referred to is in it.
pub fn side() -> impl Strategy<Value = Vec<(Key, Value)>> {
    (names("p", 5), names("r", 4), names("t", 4))
        .prop_flat_map(|(permissions, roles, tenants)| {
            let permission_fields = proptest::collection::vec(permission(), permissions.len());
            let role_fields = proptest::collection::vec(role(permissions.clone()), roles.len());
            let role_names: Vec<String> = roles.iter().cloned().collect();
            let tenant_fields = proptest::collection::vec(tenant(role_names), tenants.len());
            let own_roles = proptest::collection::vec(role(permissions.clone()), tenants.len());
            (Just((permissions, roles, tenants)), permission_fields, role_fields, tenant_fields, own_roles)
        })
        .prop_map(|((permissions, roles, tenants), permission_fields, role_fields, tenant_fields, own_roles)| {
            let mut all = Vec::new();
            all.extend(permissions.iter().map(|name| Key::new("permissions", name)).zip(permission_fields));
            all.extend(roles.iter().map(|name| Key::new("roles", name)).zip(role_fields));
            all.extend(tenants.iter().map(|id| Key::in_tenant("roles", id, "own")).zip(own_roles));
            let apart =
                tenants.iter().zip(tenant_fields).map(|(id, fields)| (Key::new("tenants", id), apart(id, fields)));
            all.extend(apart);
            all
        })
}
