//! `accessKeys`: credentials of machines. Descope shows the secret of one once, when it is created.

use super::Document;
use super::Packed;
use super::fold::is_zero;
use super::kind::Kind;
use super::kind::creating;
use super::kind::id_of;
use super::kind::packed;
use super::kind::shown_once;
use super::kind::single;
use super::kind::text;
use super::kind::unsendable;
use super::kind::with;
use super::risk::Risk;
use super::spec::Field;
use super::spec::How;
use super::spec::Identity;
use super::spec::InTenant;
use super::spec::MAIN;
use super::spec::Part;
use super::spec::Read;
use super::spec::Shape;
use super::spec::Spec;
use super::spec::Verbs;
use super::write::Answer;
use super::write::Item;
use super::write::Write;
use crate::descope::Call;
use crate::descope::Client;
use crate::descope::Error;
use crate::descope::call::deletion;
use crate::descope::call::route;
use async_trait::async_trait;
use nonempty::NonEmpty;
use serde_json::Value;
use serde_json::json;

/// The part that switches a key on and off, and its field.
const STATUS: &str = "status";

/// What some answers leave empty for every key, whatever it is.
const ROLES: [&str; 2] = ["roleNames", "keyTenants"];

static SPEC: Spec = Spec {
    name: "accessKeys",
    identity: Identity::many("name").server_id("id"),
    parts: &[
        Part {
            name: MAIN,
            read: Read::List,
            how: How::Patch,
            fields: &[
                Field::name("name"),
                Field::name("id"),
                Field::text("description").omit_keeps().at_most(254),
                // Seconds since 1970; 0 stands for never.
                Field::integer("expireTime", 0, i64::MAX).at_creation(),
                Field::text("userId").at_creation(),
                // Answers may leave all roles out, so that empty ones say nothing.
                Field::references("roleNames", "roles", InTenant::No).maybe_returned().omit_keeps(),
                Field::items(
                    "keyTenants",
                    &["tenantId"],
                    &[
                        Field::reference("tenantId", "tenants").required(),
                        Field::references("roleNames", "roles", InTenant::Beside("tenantId")),
                        Field::text("tenantName").computed(),
                    ],
                )
                .maybe_returned()
                .omit_keeps(),
                Field::of("customClaims", Shape::Map(&Shape::Json)).omit_keeps(),
                Field::attributes("customAttributes", "accessKeyAttributes").omit_keeps(),
                Field::set("permittedIps").omit_keeps().risks(&[Risk::WeakerEmpty, Risk::WeakerWildcard]),
                Field::integer("createdTime", 0, i64::MAX).computed(),
                Field::text("createdBy").computed(),
                Field::text("clientId").computed(),
                Field::text("boundUserId").computed(),
                Field::flag("editable").computed(),
            ],
        },
        Part {
            name: STATUS,
            read: Read::List,
            how: How::Overwrite,
            fields: &[
                // Who takes a key out of use may have a reason that the files do not know.
                Field::one_of(STATUS, &["active", "inactive"])
                    .maybe_returned()
                    .starts_as("\"active\"")
                    .risks(&[Risk::WeakerChanged("active")]),
            ],
        },
    ],
    verbs: Verbs { rename: true, ..Verbs::ALL },
    shows_secret: true,
    ends: Some("expireTime"),
    check,
    ..Spec::BASE
};

/// The kind.
#[derive(Debug)]
pub struct AccessKeys;

#[async_trait]
impl Kind for AccessKeys {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn listing(&self) -> Call {
        Call::list(route!(POST "/v1/mgmt/accesskey/search"), "keys", "id").asking(json!({}))
    }

    async fn observe(&self, client: &Client) -> Result<Vec<Packed>, Error> {
        let mut keys = client.documents(&self.listing()).await?;
        let has_roles = keys.iter().any(|key| ROLES.iter().any(|field| !key.get(*field).is_none_or(is_zero)));
        for key in &mut keys {
            if !has_roles {
                key.retain(|field, _| !ROLES.contains(&&**field));
            }
            // The name under which a create takes it.
            let user = key.get("boundUserId").cloned().unwrap_or_default();
            key.insert("userId".to_owned(), user);
        }
        Ok(packed(keys))
    }

    async fn send(
        &self,
        client: &Client,
        part: &'static Part,
        items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, Error> {
        let item = single(items)?;
        let call = match (part.name, item.write) {
            (MAIN, Write::Create(_)) => Call::create(route!(POST "/v1/mgmt/accesskey/create"), creating(item)?),
            (MAIN, Write::Patch(body)) => {
                let body = with(body, "id", id_of(item)?.as_str());
                Call::update(route!(POST "/v1/mgmt/accesskey/update"), body)
            }
            // A rename: it carries what else changes, and what it leaves out stays.
            (MAIN, Write::Overwrite { body, .. }) => {
                let body = with(body, "id", id_of(item)?.as_str());
                Call::update(route!(POST "/v1/mgmt/accesskey/update"), body).once_only()
            }
            (MAIN, Write::Delete { .. }) => {
                Call::delete(deletion!(POST "/v1/mgmt/accesskey/delete"), "id", id_of(item)?)
            }
            (STATUS, Write::Overwrite { body, .. }) => {
                let body_id = with(&Document::new(), "id", id_of(item)?.as_str());
                match body.get(STATUS).and_then(Value::as_str) {
                    Some("inactive") => Call::update(route!(POST "/v1/mgmt/accesskey/deactivate"), body_id),
                    _ => Call::update(route!(POST "/v1/mgmt/accesskey/activate"), body_id),
                }
            }
            _ => return Err(unsendable(item)),
        };
        let answer = client.write(&call).await?;
        let key = answer.get("key").and_then(Value::as_object);
        Ok(vec![Answer { id: key.and_then(|key| text(key, "id")).map(Into::into), shown_once: shown_once(&answer) }])
    }
}

/// Roles of the project and roles in tenants exclude one another.
fn check(declared: &Document) -> Vec<(&'static str, String)> {
    let is_set = |field: &str| declared.get(field).is_some_and(|value| !is_zero(value));
    if is_set("roleNames") && is_set("keyTenants") {
        return vec![(
            "roleNames",
            "and `keyTenants` exclude one another: name the roles inside `keyTenants`".to_owned(),
        )];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descope::script::Script;
    use crate::descope::script::document;
    use crate::descope::script::ok;
    use crate::resource::Key;
    use secrecy::ExposeSecret;

    async fn sent(part: &str, write: Write) -> (String, Value) {
        let key = Key::new("accessKeys", "ci");
        let script = Script::of([ok(&json!({}))]);
        let items = NonEmpty::new(Item::new(&key, Some("K2a"), &write));
        AccessKeys.send(&script.client(), SPEC.part(part).unwrap(), &items).await.unwrap();
        let received = script.received().remove(0);
        (received.line, received.body)
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_carries_the_id_the_name_and_what_changes() {
        let patch = Write::Patch(document(json!({ "name": "ci", "roleNames": [] })));
        let rename = Write::Overwrite { from: "old".into(), body: document(json!({ "name": "ci" })) };
        let status = |status: &str| Write::Overwrite { from: "ci".into(), body: document(json!({ "status": status })) };
        let update = "POST /v1/mgmt/accesskey/update".to_owned();

        assert_eq!(sent(MAIN, patch).await, (update.clone(), json!({ "id": "K2a", "name": "ci", "roleNames": [] })));
        assert_eq!(sent(MAIN, rename).await, (update, json!({ "id": "K2a", "name": "ci" })));
        for (word, verb) in [("inactive", "deactivate"), ("active", "activate")] {
            let line = format!("POST /v1/mgmt/accesskey/{verb}");
            assert_eq!(sent(STATUS, status(word)).await, (line, json!({ "id": "K2a" })));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_to_a_create_has_the_id_and_the_secret() {
        let key = Key::new("accessKeys", "ci");
        let script = Script::of([ok(&json!({ "cleartext": "s3cret", "key": { "id": "K2a" } }))]);
        let write = Write::Create(Document::new());
        let items = NonEmpty::new(Item::new(&key, None, &write));

        let answers = AccessKeys.send(&script.client(), SPEC.main(), &items).await.unwrap();

        assert_eq!(answers[0].id.as_deref(), Some("K2a"));
        assert_eq!(answers[0].shown_once.as_ref().unwrap().expose_secret(), "s3cret");
        assert!(!format!("{answers:?}").contains("s3cret"));
    }

    #[tokio::test(start_paused = true)]
    async fn roles_that_no_answer_has_are_not_known() {
        let key = |name: &str, roles: Value| json!({ "id": name, "name": name, "roleNames": roles, "keyTenants": [], "boundUserId": "U1" });
        for (keys, are_known) in [
            (json!([key("a", json!([])), key("b", json!(["R"]))]), true),
            (json!([key("a", json!([])), key("b", json!([]))]), false),
        ] {
            let found = AccessKeys.list(&Script::of([ok(&json!({ "keys": keys }))]).client()).await.unwrap();

            assert!(found.all().iter().all(|key| key.contains_key("roleNames") == are_known), "{found:?}");
            assert!(found.all().iter().all(|key| key["userId"] == "U1"));
        }
    }

    #[test]
    fn roles_of_the_project_and_of_tenants_exclude_one_another() {
        let tenants = json!([{ "tenantId": "acme" }]);

        assert_eq!(check(&document(json!({ "roleNames": ["R"], "keyTenants": tenants }))).len(), 1);
        assert!(check(&document(json!({ "roleNames": [], "keyTenants": tenants }))).is_empty());
        assert!(check(&document(json!({ "roleNames": ["R"] }))).is_empty());
    }
}
