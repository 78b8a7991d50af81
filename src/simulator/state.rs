//! The contents of a world as one document: what `/_sim/state` answers and takes.

use super::fields::Document;
use super::fields::Fields;
use super::kinds;
use super::kinds::Kind;
use super::options::Switches;
use super::refusal::Refusal;
use super::view::Look;
use super::world::World;

/// Everything in a world, including what the API never returns, as JSON.
pub fn write(world: &World) -> Vec<u8> {
    let switches = Switches::default();
    let look = Look::all(world, &switches);
    let stored = kinds::ALL.iter().filter(|kind| kind.table().is_some());
    let parts = stored.map(|kind| {
        let rows = world.contents(kind.name(), &look).join(&b","[..]);
        [b"\"", kind.name().as_bytes(), b"\":[", &rows, b"]"].concat()
    });
    [b"{", &parts.collect::<Vec<_>>().join(&b","[..])[..], b"}"].concat()
}

/// A world with these contents. A kind that is left out is what a new project has.
pub fn read(document: Document, seed: u64) -> Result<World, Refusal> {
    let mut world = World::empty(seed);
    let start = world.mark();
    let mut fields = Fields::new(document);
    for kind in kinds::ALL.iter().filter(|kind| kind.table().is_some()) {
        match fields.items(kind.name())? {
            None => kind.start(&mut world),
            Some(items) => {
                for item in items {
                    kind.put(&mut world, item)?;
                }
            }
        }
        kind.complete(&mut world);
    }
    if let Some(unknown) = fields.rest().keys().next() {
        return Err(Refusal::Invalid(format!("there is no kind {unknown}")));
    }
    world.settle(&start);
    Ok(world)
}

/// The kind with this name.
pub fn kind(name: &str) -> Result<&'static dyn Kind, Refusal> {
    let found = kinds::ALL.iter().find(|kind| kind.name() == name && kind.table().is_some());
    found.copied().ok_or(Refusal::NoSuchCall)
}

/// A field that a document may set.
pub fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// Null takes an extra field away.
pub fn merge(extra: &mut Document, changes: Document) {
    for (name, value) in changes {
        if value.is_null() {
            extra.remove(&name);
        } else {
            extra.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use serde_json::json;

    fn written(world: &World) -> Value {
        serde_json::from_slice(&write(world)).unwrap()
    }

    fn document(value: &Value) -> Document {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let given = document(&json!({
            "permissions": [{ "name": "doc:read", "note": "ours" }],
            "roles": [{ "name": "Editor", "permissionNames": ["doc:read", "SSO Admin"] }, { "name": "Owner", "tenantId": "acme" }],
            "tenants": [{ "id": "acme", "parent": "root", "federatedAppIds": ["a"], "defaultRoles": ["Editor"], "region": "eu" }],
        }));
        let first = written(&read(given, 1).unwrap());

        let second = written(&read(document(&first), 2).unwrap());

        assert_eq!(first, second);
        assert_eq!(first["tenants"][0]["region"], "eu");
        assert_eq!(first["tenants"][0]["parent"], "root");
    }

    #[test]
    fn a_list_left_out_is_that_of_a_new_project_and_an_empty_one_is_empty() {
        let new = written(&read(document(&json!({})), 1).unwrap());
        let none = written(&read(document(&json!({ "permissions": [], "roles": [] })), 1).unwrap());

        assert_eq!(new, written(&World::new(1)));
        assert_eq!(none["roles"], json!([]));
        assert_eq!(none["permissions"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn merging_changes_what_is_given_and_null_removes_an_extra_field() {
        let mut world = World::new(1);
        let fields = |value: Value| Fields::new(document(&value));
        let tenants = kind("tenants").unwrap();
        tenants.put(&mut world, fields(json!({ "id": "acme", "name": "Acme", "region": "eu", "tier": 1 }))).unwrap();

        tenants.put(&mut world, fields(json!({ "id": "acme", "disabled": true, "tier": null }))).unwrap();

        let acme = &written(&world)["tenants"][0];
        assert_eq!((&acme["name"], &acme["disabled"], &acme["region"]), (&json!("Acme"), &json!(true), &json!("eu")));
        assert!(acme.get("tier").is_none());
    }
}
