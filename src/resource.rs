//! A Descope resource: who it is, what its table says, and what can be written to it.
//!
//! One file per kind brings a table, a [`Spec`], and implements [`Kind`]; [`ALL`] lists them. What can be said as data is
//! said in the table, once: the desired state is checked against it, the diff walks it, references and digests come from it.
//! What differs between kinds in code is how to list them and which calls write them.

pub mod documents;
pub mod fold;
pub mod form;
pub mod key;
pub mod kind;
pub mod legible;
mod once;
pub mod opaque;
pub mod refer;
pub mod reference;
pub mod remember;
pub mod risk;
pub mod secret;
pub mod spec;
pub mod touch;
pub mod twins;
pub mod write;
pub mod written;

pub mod access_key;
pub mod attribute;
pub mod fga_schema;
pub mod flow;
pub mod inbound_app;
pub mod jwt_template;
pub mod list;
pub mod named_attribute;
pub mod outbound_app;
pub mod password_settings;
pub mod permission;
pub mod project;
pub mod role;
pub mod scope_claim_mapping;
pub mod sso_application;
pub mod tenant;
pub mod theme;

pub use crate::descope::Document;
pub use crate::descope::Packed;
pub use documents::Documents;
pub use key::Key;
pub use kind::Kind;
pub use opaque::Opaque;
pub use risk::Harm;
pub use risk::risks;
pub use spec::Field;
pub use spec::MAIN;
pub use spec::Part;
pub use spec::Shape;
pub use spec::Spec;
pub use touch::Touch;
pub use touch::Touched;
pub use write::Action;
pub use write::Answer;
pub use write::Item;
pub use write::Write;
pub use written::Fields;
pub use written::Written;

/// Every kind the daemon manages, in the order in which they are created.
pub const ALL: &[&dyn Kind] = &[
    &attribute::UserAttributes,
    &attribute::SsoApplicationAttributes,
    &named_attribute::TenantAttributes,
    &named_attribute::AccessKeyAttributes,
    &permission::Permissions,
    &role::Roles,
    &list::Lists,
    &jwt_template::JwtTemplates,
    &sso_application::SsoApplications,
    &tenant::Tenants,
    &password_settings::PasswordSettings,
    &inbound_app::InboundApps,
    &outbound_app::OutboundApps,
    &access_key::AccessKeys,
    &scope_claim_mapping::ScopeClaimMapping,
    &flow::Flows,
    &theme::Theme,
    &fga_schema::FgaSchema,
    &project::Project,
];

/// The kind with this top-level key in the YAML.
pub fn kind(name: &str) -> Option<&'static dyn Kind> {
    ALL.iter().copied().find(|kind| kind.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descope::Error;
    use crate::descope::script::Script;
    use crate::descope::script::document;
    use crate::descope::script::ok;
    use crate::descope::script::status;
    use nonempty::NonEmpty;
    use serde_json::Value;
    use serde_json::json;
    use std::collections::BTreeSet;

    type Case = (&'static dyn Kind, Vec<(Key, Write)>);

    #[tokio::test(start_paused = true)]
    async fn what_no_call_reads_is_an_error_and_never_absent() {
        let kind = kind("permissions").unwrap();
        let (script, key) = (Script::of([]), Key::new("permissions", "p"));

        let read = kind.read(&script.client(), &kind.spec().parts[0], &key, None).await;

        assert!(matches!(read, Err(Error::Unsendable { operation: "permissions", .. })), "{read:?}");
    }

    fn item<'a>(key: &'a Key, write: &'a Write) -> Item<'a> {
        Item::new(key, None, write)
    }

    /// What `writes` put on the wire: request line and body.
    async fn sent(kind: &dyn Kind, writes: &[(Key, Write)]) -> Result<(String, Value), Error> {
        let script = Script::of([ok(&json!({}))]);
        let items = NonEmpty::from_vec(writes.iter().map(|(key, write)| item(key, write)).collect()).unwrap();
        kind.send(&script.client(), kind.spec().main(), &items).await?;
        let received = script.received().remove(0);
        Ok((received.line, received.body))
    }

    #[tokio::test(start_paused = true)]
    async fn a_rename_is_addressed_by_the_old_name_and_the_tenant() {
        let body = document(json!({ "name": "x", "tenantId": "other", "description": "d", "permissionNames": ["p"] }));
        let write = Write::Overwrite { from: "old".into(), body };

        let found = sent(&role::Roles, &[(Key::in_tenant("roles", "acme", "new"), write)]).await;

        let expected = json!({
            "name": "old", "newName": "new", "tenantId": "acme", "description": "d", "permissionNames": ["p"],
        });
        assert_eq!(found, Ok(("POST /v1/mgmt/role/update".to_owned(), expected)));
    }

    /// The planner asks the write, the client asks the call: they have to agree.
    #[tokio::test(start_paused = true)]
    async fn what_a_write_says_of_repeating_is_what_the_client_does() {
        let body = Document::new();
        let overwrite = |from: &str| Write::Overwrite { from: from.into(), body: Document::new() };
        let cases: [(&dyn Kind, &str, Vec<Write>); 4] = [
            (&permission::Permissions, MAIN, vec![overwrite("x"), overwrite("old")]),
            (&role::Roles, MAIN, vec![overwrite("x"), overwrite("old")]),
            (&tenant::Tenants, MAIN, vec![overwrite("x"), Write::Patch(body.clone())]),
            (&tenant::Tenants, "defaultRoles", vec![overwrite("x")]),
        ];
        for (kind, part, mut writes) in cases {
            if part == MAIN {
                writes.extend([Write::Create(body.clone()), Write::Delete { cascade: false }]);
            }
            let part = kind.spec().part(part).unwrap();
            for write in writes {
                let key = Key::new(kind.name(), "x");
                let script = Script::of([status(503, ""), ok(&json!({}))]);
                let sent = kind.send(&script.client(), part, &NonEmpty::new(item(&key, &write))).await;
                assert_eq!(sent.is_ok(), write.is_repeatable(&key), "{key} {write:?}");
                assert_eq!(script.is_done(), write.is_repeatable(&key), "{key} {write:?}");
            }
        }
    }

    /// A call that empties it is an update, and the table says what it takes.
    #[test]
    fn what_a_project_has_one_of_is_never_deleted() {
        for kind in ALL.iter().filter(|kind| kind.spec().is_only()) {
            assert!(!kind.spec().verbs.delete, "{}", kind.name());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_list_is_read_as_its_key_can_read_it() {
        let kinds: [(&dyn Kind, &str); 4] = [
            (&permission::Permissions, "permission"),
            (&role::Roles, "role"),
            (&tenant::Tenants, "tenant"),
            (&list::Lists, "list"),
        ];
        for (kind, call) in kinds {
            let item = json!({ "id": "x", "name": "x", "unknown": 1 });
            let script = Script::of([ok(&json!({ kind.name(): [item] }))]);

            let found = kind.list(&script.client()).await.unwrap().all();

            assert_eq!(found, [document(item)]);
            assert_eq!(kind.key(&found[0]), Some(Key::new(kind.name(), "x")));
            assert_eq!(script.received()[0].line, format!("GET /v1/mgmt/{call}/all"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_descope_knows_by_its_id_is_addressed_by_it() {
        let lists = &list::Lists;
        let key = Key::new("lists", "new");
        let body = document(json!({ "name": "new", "type": "texts", "data": ["a"] }));
        let overwrite = Write::Overwrite { from: "old".into(), body };
        let delete = Write::Delete { cascade: false };
        for (write, line, expected) in [
            (
                &overwrite,
                "POST /v1/mgmt/list/update",
                json!({ "id": "L1", "name": "new", "type": "texts", "data": ["a"] }),
            ),
            (&delete, "POST /v1/mgmt/list/delete", json!({ "id": "L1" })),
        ] {
            let script = Script::of([ok(&json!({ "list": { "id": "L1" } }))]);

            let with_id = Item::new(&key, Some("L1"), write);
            lists.send(&script.client(), lists.spec().main(), &NonEmpty::new(with_id)).await.unwrap();
            let without = lists.send(&script.client(), lists.spec().main(), &NonEmpty::new(item(&key, write))).await;

            assert!(matches!(without, Err(Error::Unsendable { .. })), "{without:?}");
            let received = script.received().remove(0);
            assert_eq!((received.line.as_str(), &received.body), (line, &expected));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_only_one_of_a_kind_is_always_there() {
        let kind = &scope_claim_mapping::ScopeClaimMapping;
        for (answer, is_unset) in [
            (json!({}), true),
            (json!({ "mappings": null }), true),
            (json!({ "mappings": [{ "scope": "a", "claims": { "c": "1" } }] }), false),
        ] {
            let found = kind.list(&Script::of([ok(&answer)]).client()).await.unwrap().all();

            assert_eq!(found.len(), 1);
            assert_eq!(kind.key(&found[0]), Some(Key::only("scopeClaimMapping")));
            assert_eq!(kind.is_unset(&found[0]), is_unset);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_project_role_is_never_addressed_in_a_tenant() {
        let write = Write::Overwrite { from: "a".into(), body: document(json!({ "tenantId": "acme" })) };

        let found = sent(&role::Roles, &[(Key::new("roles", "a"), write)]).await;

        let expected = json!({ "name": "a", "newName": "a" });
        assert_eq!(found, Ok(("POST /v1/mgmt/role/update".to_owned(), expected)));
    }

    #[tokio::test(start_paused = true)]
    async fn creates_carry_their_identity_and_go_in_one_call() {
        let create = |text| Write::Create(document(json!({ "description": text })));
        let writes =
            [(Key::in_tenant("roles", "acme", "Owner"), create("a")), (Key::new("roles", "Editor"), create("b"))];

        let found = sent(&role::Roles, &writes).await;

        let expected = json!({ "roles": [
            { "name": "Owner", "tenantId": "acme", "description": "a" },
            { "name": "Editor", "description": "b" },
        ]});
        assert_eq!(found, Ok(("POST /v1/mgmt/role/create/batch".to_owned(), expected)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_fits_no_call_is_refused_before_anything_is_sent() {
        let delete = Write::Delete { cascade: false };
        let create = Write::Create(Document::new());
        let patch = Write::Patch(Document::new());
        let (own, other) = (Key::in_tenant("roles", "acme", "a"), Key::new("roles", "b"));
        let (acme, globex) = (Key::new("tenants", "acme"), Key::new("tenants", "globex"));
        let permission = Key::new("permissions", "p");
        let cases: [Case; 7] = [
            (&role::Roles, vec![(own.clone(), delete.clone()), (other.clone(), delete.clone())]),
            (&role::Roles, vec![(other.clone(), delete.clone()), (other.clone(), create.clone())]),
            (&role::Roles, vec![(own, create.clone()), (other.clone(), delete.clone())]),
            (&role::Roles, vec![(Key::new("roles", ""), delete.clone())]),
            (&role::Roles, vec![(other, patch.clone())]),
            (&permission::Permissions, vec![(permission, patch.clone())]),
            (&tenant::Tenants, vec![(acme, patch.clone()), (globex, patch)]),
        ];
        for (kind, writes) in cases {
            let found = sent(kind, &writes).await;
            assert!(matches!(found, Err(Error::Unsendable { .. })), "{writes:?}: {found:?}");
        }
    }

    #[test]
    fn system_permissions_are_builtin_and_named_by_nobody() {
        let is_builtin = |value| permission::Permissions.is_builtin(&document(value), &["doc:read".to_owned()]);

        assert!(is_builtin(json!({ "name": "Impersonate", "systemDefault": true })));
        assert!(!is_builtin(json!({ "name": "doc:read", "systemDefault": false })));
        assert!(!is_builtin(json!({ "name": "doc:read" })));
    }

    #[test]
    fn every_table_is_sound() {
        let names: BTreeSet<_> = ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), ALL.len());

        for spec in ALL.iter().map(|kind| kind.spec()) {
            assert_eq!(spec.main().name, MAIN, "{}", spec.name);
            let parts: BTreeSet<_> = spec.parts.iter().map(|part| part.name).collect();
            assert_eq!(parts.len(), spec.parts.len(), "{}", spec.name);
            let fields: Vec<_> = spec.fields().map(|(_, field)| field.name).collect();
            assert_eq!(fields.iter().collect::<BTreeSet<_>>().len(), fields.len(), "{}", spec.name);
            let identity = spec.identity;
            assert!(identity.field.is_none_or(|field| spec.main().fields[0].name == field), "{}", spec.name);
            // Of many in one call, nobody could tell whose secret is whose, nor which was made.
            assert!(!spec.shows_secret || spec.verbs.batch == 1 && identity.server_id.is_some(), "{}", spec.name);
            assert!(spec.ends.is_none_or(|field| spec.field(field).is_some()), "{}", spec.name);
            for field in [identity.tenant, identity.server_id, identity.bare].into_iter().flatten() {
                assert!(spec.field(field).is_some(), "{} {field}", spec.name);
            }
        }
    }

    #[test]
    #[allow(clippy::wildcard_enum_match_arm, reason = "no other shape names a kind")]
    fn what_is_referred_to_is_a_kind() {
        fn check(of: &str, fields: &[Field]) {
            for field in fields {
                assert!(field.entries_of.is_none_or(|named| kind(named).is_some()), "{of} {}", field.name);
                match field.shape {
                    Shape::Reference(to) | Shape::References(to) => {
                        assert!(kind(to.kind).is_some(), "{of} {}", field.name);
                    }
                    Shape::Object(fields)
                    | Shape::Items { fields, .. }
                    | Shape::List(&Shape::Object(fields))
                    | Shape::Map(&Shape::Object(fields)) => check(of, fields),
                    _ => {}
                }
            }
        }
        for spec in ALL.iter().map(|kind| kind.spec()) {
            spec.parts.iter().for_each(|part| check(spec.name, part.fields));
        }
    }

    #[test]
    fn a_create_rename_or_delete_is_not_repeatable() {
        let key = Key::new("roles", "new");
        let overwrite = |from: &str| Write::Overwrite { from: from.into(), body: Document::new() };

        assert!(overwrite("new").is_repeatable(&key));
        assert!(!overwrite("old").is_repeatable(&key));
        assert!(!Write::Create(Document::new()).is_repeatable(&key));
        assert!(!Write::<Document>::Delete { cascade: false }.is_repeatable(&key));
    }
}
