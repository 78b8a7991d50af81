//! A Descope resource: its identity, the shape of its document, and what can be written to it.
//!
//! One file per kind implements [`Kind`]; [`ALL`] lists them. A kind is mostly a table of [`Field`]s: the desired
//! state is checked against it, the diff walks it, the JSON Schema is made from it. What differs between kinds in
//! code is how to list them and which calls write them.

use crate::descope::Client;
use crate::descope::Error;
use async_trait::async_trait;
use nonempty::NonEmpty;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

pub mod permission;
pub mod role;
pub mod tenant;

pub use crate::descope::Document;

/// Every kind the daemon manages, in the order in which they are created.
pub const ALL: &[&dyn Kind] = &[&permission::Permissions, &role::Roles, &tenant::Tenants];

/// The kind with this top-level key in the YAML.
pub fn kind(name: &str) -> Option<&'static dyn Kind> {
    ALL.iter().copied().find(|kind| kind.name() == name)
}

/// Identity of one resource within a project. Compares byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The top-level key of the YAML, `roles`.
    pub kind: &'static str,
    /// The tenant a role belongs to; `None` is a project role, and always so for other kinds.
    pub tenant: Option<Arc<str>>,
    /// `name` or `id`, whichever identifies the kind.
    pub name: Arc<str>,
}

impl Key {
    /// A key without a tenant.
    pub fn new(kind: &'static str, name: &str) -> Self {
        Self { kind, tenant: None, name: name.into() }
    }

    /// A key of a resource that belongs to a tenant.
    pub fn in_tenant(kind: &'static str, tenant: &str, name: &str) -> Self {
        Self { kind, tenant: Some(tenant.into()), name: name.into() }
    }

    /// The tenant that it lives in, and is deleted with.
    pub fn home(&self) -> Option<Self> {
        Some(Self::new("tenants", self.tenant.as_ref()?))
    }

    /// The identity as operators see it: `NAME`, or `TENANT/NAME`.
    pub fn id(&self) -> String {
        match &self.tenant {
            Some(tenant) => format!("{tenant}/{}", self.name),
            None => self.name.to_string(),
        }
    }
}

/// `roles/TENANT/NAME`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.id())
    }
}

/// One field that the YAML may write.
#[derive(Debug)]
pub struct Field {
    /// The API's own name.
    pub name: &'static str,
    /// What a value looks like.
    pub shape: Shape,
    /// How it is compared and written.
    pub rule: Rule,
}

/// What a field's value looks like. `null` is allowed wherever clearing makes sense ([`Rule`] says where it does not).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A string.
    Text,
    /// A string that may not be empty.
    Name,
    /// `true` or `false`.
    Flag,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// A list of strings whose order means nothing; duplicates fold.
    Set,
    /// A map from caller-chosen names to a string, number, boolean or list of strings. Managed key by key: a name that
    /// the YAML leaves out is never changed, `null` clears one name, and `null` for the whole field clears all.
    Attributes,
}

/// How a field is compared and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Part of the [`Key`]; required.
    Identity,
    /// The tenant part of the [`Key`]; optional.
    Tenant,
    /// Read back by list calls and written by the kind's main calls.
    Plain,
    /// Like `Plain`, and required in the YAML: the API refuses a create without it.
    Required,
    /// Taken by create alone: a later difference is an error that says what to do instead.
    CreateOnly,
    /// Taken, but maybe never read back: where the answer lacks it, the state's fingerprint decides.
    Unreadable,
    /// Read back by list calls, written by a call of its own after the resource and the roles exist.
    Part(Part),
}

/// Which calls of a resource a task speaks of. Ordered: the main part goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The resource itself.
    Main,
    /// The default roles of a tenant.
    DefaultRoles,
}

/// What is done to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// It does not exist yet.
    Create,
    /// It exists and differs.
    Update,
    /// It exists under its old name.
    Rename,
    /// It exists and shall not.
    Delete,
}

impl Action {
    /// The word in plans, status and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Rename => "rename",
            Self::Delete => "delete",
        }
    }
}

/// One call, or one item of a batch call: what [`Kind::send`] puts on the wire.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Body of the create call.
    Create(Document),
    /// Body of the call that overwrites everything, built on the observed document. `from` is the name that the
    /// resource has now; a rename carries another one in the body.
    Overwrite {
        /// The key's present name.
        from: Arc<str>,
        /// The complete new document, without computed fields.
        body: Document,
    },
    /// Only the fields that change.
    Patch(Document),
    /// Replaces the whole list of a tenant's default roles.
    DefaultRoles(Vec<String>),
    /// Removes the resource.
    Delete {
        /// Deletes a tenant's users too. True only where the YAML said so when the tenant was last declared.
        cascade: bool,
    },
}

impl Write {
    /// May the same call be sent again when its answer was lost, without a look in between? A create could double or
    /// collide, a rename or delete would be refused as not found.
    pub fn is_repeatable(&self, key: &Key) -> bool {
        match self {
            Self::Create(_) | Self::Delete { .. } => false,
            Self::Overwrite { from, .. } => *from == key.name,
            Self::Patch(_) | Self::DefaultRoles(_) => true,
        }
    }
}

/// One kind of Descope resource. A new kind is a new file here and a line in [`ALL`].
#[async_trait]
pub trait Kind: Send + Sync {
    /// Top-level key in the YAML and `kind` label on metrics, e.g. `permissions`.
    fn name(&self) -> &'static str;

    /// Every field the YAML may write, identity first.
    fn fields(&self) -> &'static [Field];

    /// Fields of a list answer that only Descope sets, or that another call owns: dropped from an overwriting call.
    fn computed(&self) -> &'static [&'static str];

    /// Does the API rename in place, so that ids and assignments stay?
    fn has_rename(&self) -> bool {
        false
    }

    /// May `cascadeDelete: true` be declared?
    fn has_cascade(&self) -> bool {
        false
    }

    /// Does the API patch single fields? Otherwise every update overwrites.
    fn has_patch(&self) -> bool {
        false
    }

    /// Built into Descope: never touched, never listed as undeclared. `builtin_roles` are configured names.
    fn is_builtin(&self, _live: &Document, _builtin_roles: &[String]) -> bool {
        false
    }

    /// Identity of a live document; `None` where the answer lacks it, which makes the whole answer unusable.
    fn key(&self, live: &Document) -> Option<Key>;

    /// What a declared or live document refers to, as keys: those are created before it and deleted after it. The
    /// document holds its identity too (`id`, `tenantId`), also where it was declared. A name that means a project
    /// role or a tenant's own gives both keys; what nobody creates or deletes needs no order.
    fn references(&self, document: &Document, part: Part) -> Vec<Key>;

    /// How many writes of one sort fit into one call; 1 where the API has no batch.
    fn batch_size(&self, write: &Write) -> usize;

    /// Every live document of this kind, as Descope sends them. An answer that is not of the documented form is an
    /// error, never an empty list.
    async fn list(&self, client: &Client) -> Result<Vec<Document>, Error>;

    /// Sends the writes in one call. All are of one variant, not more than [`Kind::batch_size`], and where the kind
    /// has tenants and the writes are deletes, of one tenant.
    async fn send(&self, client: &Client, writes: &NonEmpty<(&Key, &Write)>) -> Result<(), Error>;
}

/// What each write puts into a batch.
fn each<'a, T>(
    writes: &NonEmpty<(&'a Key, &'a Write)>,
    item: impl Fn(&'a Key, &'a Write) -> Result<T, Error>,
) -> Result<NonEmpty<T>, Error> {
    writes.clone().try_map(|(key, write)| item(key, write))
}

/// The body of an overwriting call of a kind that is addressed by name: its present name, and the one it gets.
fn overwriting(key: &Key, write: &Write) -> Result<Document, Error> {
    let Write::Overwrite { from, body } = write else { return Err(unsendable(key, write)) };
    Ok(with(&with(body, "name", from), "newName", &key.name))
}

fn with(body: &Document, field: &str, text: &str) -> Document {
    let mut body = body.clone();
    body.insert(field.to_owned(), text.into());
    body
}

/// The strings of a list field; nothing where it is no list.
fn strings<'a>(document: &'a Document, field: &str) -> impl Iterator<Item = &'a str> {
    document.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// A write that its kind has no call for, or not together with the others.
fn unsendable(key: &Key, write: &Write) -> Error {
    let what = match write {
        Write::Create(_) => "create",
        Write::Overwrite { .. } => "overwrite",
        Write::Patch(_) => "patch",
        Write::DefaultRoles(_) => "default roles",
        Write::Delete { .. } => "delete",
    };
    Error::Unsendable { operation: key.kind, what: format!("no call takes this {what} of {}", key.id()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descope::script::Script;
    use crate::descope::script::document;
    use crate::descope::script::ok;
    use crate::descope::script::status;
    use serde_json::json;
    use std::collections::BTreeSet;

    type Case = (&'static dyn Kind, Vec<(Key, Write)>);

    /// What `writes` put on the wire: request line and body.
    async fn sent(kind: &dyn Kind, writes: &[(Key, Write)]) -> Result<(String, Value), Error> {
        let script = Script::of([ok(&json!({}))]);
        let writes = NonEmpty::from_vec(writes.iter().map(|(key, write)| (key, write)).collect()).unwrap();
        kind.send(&script.client(), &writes).await?;
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
        let cases: [(&dyn Kind, Vec<Write>); 3] = [
            (&permission::Permissions, vec![overwrite("x"), overwrite("old")]),
            (&role::Roles, vec![overwrite("x"), overwrite("old")]),
            (&tenant::Tenants, vec![overwrite("x"), Write::Patch(body.clone()), Write::DefaultRoles(Vec::new())]),
        ];
        for (kind, mut writes) in cases {
            writes.extend([Write::Create(body.clone()), Write::Delete { cascade: false }]);
            for write in writes {
                let key = Key::new(kind.name(), "x");
                let script = Script::of([status(503, ""), ok(&json!({}))]);
                let sent = kind.send(&script.client(), &NonEmpty::new((&key, &write))).await;
                assert_eq!(sent.is_ok(), write.is_repeatable(&key), "{key} {write:?}");
                assert_eq!(script.is_done(), write.is_repeatable(&key), "{key} {write:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_kind_lists_what_its_key_can_read() {
        for (kind, call) in ALL.iter().zip(["permission", "role", "tenant"]) {
            let item = json!({ "id": "x", "name": "x", "unknown": 1 });
            let script = Script::of([ok(&json!({ kind.name(): [item] }))]);

            let found = kind.list(&script.client()).await.unwrap();

            assert_eq!(found, [document(item)]);
            assert_eq!(kind.key(&found[0]), Some(Key::new(kind.name(), "x")));
            assert_eq!(script.received()[0].line, format!("GET /v1/mgmt/{call}/all"));
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
    fn every_kind_has_its_own_name_and_one_identity_that_comes_first() {
        let names: BTreeSet<_> = ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), ALL.len());

        for kind in ALL {
            let identities = kind.fields().iter().filter(|field| field.rule == Rule::Identity).count();
            assert_eq!((identities, kind.fields()[0].rule), (1, Rule::Identity), "{}", kind.name());
        }
    }

    #[test]
    fn what_the_yaml_writes_by_the_main_call_is_not_dropped_as_computed() {
        for kind in ALL {
            for field in kind.fields() {
                let is_dropped = kind.computed().contains(&field.name);
                let has_own_call = matches!(field.rule, Rule::Part(_) | Rule::CreateOnly);
                assert_eq!(is_dropped, has_own_call, "{} {}", kind.name(), field.name);
            }
        }
    }

    #[test]
    fn a_create_rename_or_delete_is_not_repeatable() {
        let key = Key::new("roles", "new");
        let overwrite = |from: &str| Write::Overwrite { from: from.into(), body: Document::new() };

        assert!(overwrite("new").is_repeatable(&key));
        assert!(!overwrite("old").is_repeatable(&key));
        assert!(!Write::Create(Document::new()).is_repeatable(&key));
        assert!(!Write::Delete { cascade: false }.is_repeatable(&key));
    }
}
