//! Definitions of custom attributes that the API shows one by one, by their name: `tenantAttributes` and
//! `accessKeyAttributes`. What nobody here knows the name of is never seen.

use super::Document;
use super::Key;
use super::attribute::OPENED;
use super::attribute::TYPE as OWN_TYPE;
use super::attribute::TYPES;
use super::attribute::is_choice;
use super::fold::is_zero;
use super::kind::Kind;
use super::kind::creating;
use super::kind::single;
use super::kind::unsendable;
use super::spec::Field;
use super::spec::How;
use super::spec::Identity;
use super::spec::MAIN;
use super::spec::Part;
use super::spec::Read;
use super::spec::Spec;
use super::write::Answer;
use super::write::Item;
use super::write::Write;
use crate::descope::Call;
use crate::descope::Client;
use crate::descope::Error;
use crate::descope::Name;
use crate::descope::call::Deletion;
use crate::descope::call::Route;
use crate::descope::call::deletion;
use crate::descope::call::route;
use async_trait::async_trait;
use nonempty::NonEmpty;
use serde_json::Value;

// A list that the call leaves out stays, an empty one clears.
const NAME: Field = Field::name("name").plain(20);
const TYPE: Field = Field::one_of("type", TYPES).required().at_creation();
const DISPLAY_NAME: Field = Field::text("displayName");
const OPTIONS: Field = Field::set("options").omit_keeps();
const VIEW: Field = Field::set("viewPermissions").omit_keeps().risks(OPENED);
const EDIT: Field = Field::set("editPermissions").omit_keeps().risks(OPENED);

const fn part(fields: &'static [Field]) -> Part {
    Part { name: MAIN, read: Read::ByName, how: How::Upsert, fields }
}

const BASE: Spec = Spec { identity: Identity::many("name"), in_settings: true, check, ..Spec::BASE };

/// The API refuses `editPermissions` of them.
static OF_TENANTS: Spec = Spec {
    name: "tenantAttributes",
    parts: &[part(&[NAME, TYPE, DISPLAY_NAME, OPTIONS, VIEW])],
    named_in: Some(("tenants", "customAttributes")),
    ..BASE
};

static OF_KEYS: Spec = Spec {
    name: "accessKeyAttributes",
    parts: &[part(&[NAME, TYPE, DISPLAY_NAME, OPTIONS, VIEW, EDIT])],
    named_in: Some(("accessKeys", "customAttributes")),
    ..BASE
};

/// The attributes of tenants.
#[derive(Debug)]
pub struct TenantAttributes;

/// The attributes of access keys.
#[derive(Debug)]
pub struct AccessKeyAttributes;

#[async_trait]
impl Kind for TenantAttributes {
    fn spec(&self) -> &'static Spec {
        &OF_TENANTS
    }

    fn listing(&self) -> Call {
        Call::object(route!(GET "/v1/mgmt/tenant/attribute"))
    }

    async fn read(
        &self,
        client: &Client,
        _: &'static Part,
        key: &Key,
        _: Option<&str>,
    ) -> Result<Option<Document>, Error> {
        read(client, self.listing(), self.spec(), key).await
    }

    async fn send(
        &self,
        client: &Client,
        _part: &'static Part,
        items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, Error> {
        let write = route!(POST "/v1/mgmt/tenant/attribute");
        send(client, write, deletion!(DELETE "/v1/mgmt/tenant/attribute"), single(items)?).await
    }
}

#[async_trait]
impl Kind for AccessKeyAttributes {
    fn spec(&self) -> &'static Spec {
        &OF_KEYS
    }

    fn listing(&self) -> Call {
        Call::object(route!(GET "/v1/mgmt/accesskey/attribute"))
    }

    async fn read(
        &self,
        client: &Client,
        _: &'static Part,
        key: &Key,
        _: Option<&str>,
    ) -> Result<Option<Document>, Error> {
        read(client, self.listing(), self.spec(), key).await
    }

    async fn send(
        &self,
        client: &Client,
        _part: &'static Part,
        items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, Error> {
        let write = route!(POST "/v1/mgmt/accesskey/attribute");
        send(client, write, deletion!(DELETE "/v1/mgmt/accesskey/attribute"), single(items)?).await
    }
}

/// The definition. No source says how the API words that there is none: a refusal is taken for it, and the call that would
/// create it changes one that is there all the same.
async fn read(client: &Client, call: Call, spec: &Spec, key: &Key) -> Result<Option<Document>, Error> {
    let operation = call.operation();
    let found = match client.read(&call.query_with("name", &key.name)).await {
        Ok(found) => found,
        Err(Error::Rejected { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    if found.get("name").and_then(Value::as_str) != Some(&key.name) {
        let what = format!("no attribute `{}`, which was asked for", key.name);
        return Err(Error::Undocumented { operation, what });
    }
    // What it answers of a field that is none of this entity, no request takes; and what a request leaves out stays.
    let mut known: Document = found.into_iter().filter(|(name, _)| spec.field(name).is_some()).collect();
    known.extend(known.get("type").cloned().map(|word| (OWN_TYPE.to_owned(), word)));
    Ok(Some(known))
}

async fn send(client: &Client, write: Route, delete: Deletion, item: &Item<'_>) -> Result<Vec<Answer>, Error> {
    let call = match item.write {
        Write::Create(_) => Call::create(write, creating(item)?),
        Write::Overwrite { body, .. } => {
            let mut body = body.clone();
            let word = body.remove(OWN_TYPE);
            body.extend(word.map(|word| ("type".to_owned(), word)));
            Call::update(write, body)
        }
        Write::Delete { .. } => Call::delete_at(delete, "name", Name::new(&item.key.name)?),
        Write::Patch(_) => return Err(unsendable(item)),
    };
    client.write(&call).await.map(|_| Vec::new())
}

/// Only a choice has options, and a name is short and plain.
fn check(declared: &Document) -> Vec<(&'static str, String)> {
    let word = declared.get("type").and_then(Value::as_str).unwrap_or_default();
    let has_options = declared.get("options").is_some_and(|options| !is_zero(options));
    if has_options && !is_choice(word) {
        return vec![("options", format!("mean nothing to an attribute of type `{word}`"))];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descope::script::Script;
    use crate::descope::script::document;
    use crate::descope::script::ok;
    use crate::descope::script::status;
    use serde_json::json;

    fn key() -> Key {
        Key::new("tenantAttributes", "plan")
    }

    #[tokio::test(start_paused = true)]
    async fn one_is_read_by_its_name_and_a_refusal_says_that_there_is_none() {
        let plan = json!({ "name": "plan", "type": "string", "displayName": "", "editPermissions": null });
        let main = OF_TENANTS.main();
        for (answer, expected) in [
            (
                ok(&plan),
                Ok(Some(document(json!({ "name": "plan", "type": "string", "@type": "string", "displayName": "" })))),
            ),
            (status(400, r#"{"errorCode":"E011003"}"#), Ok(None)),
            (status(404, ""), Ok(None)),
        ] {
            let script = Script::of([answer]);
            let found = TenantAttributes.read(&script.client(), main, &key(), None).await;
            assert_eq!(found, expected);
            assert_eq!(script.received()[0].line, "GET /v1/mgmt/tenant/attribute?name=plan");
        }
        for answer in [status(403, "{}"), ok(&json!({})), ok(&json!({ "name": "another" }))] {
            let found = TenantAttributes.read(&Script::of([answer]).client(), main, &key(), None).await;
            assert!(found.is_err(), "{found:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_creates_and_changes() {
        let body = json!({ "name": "plan", "type": "singleselect", "options": ["a"] });
        let known = json!({ "name": "plan", "@type": "singleselect", "options": ["a"] });
        let change = Write::Overwrite { from: "plan".into(), body: document(known) };
        for (write, line, expected) in [
            (&Write::Create(document(body.clone())), "POST /v1/mgmt/tenant/attribute", body.clone()),
            (&change, "POST /v1/mgmt/tenant/attribute", body),
            (&Write::Delete { cascade: false }, "DELETE /v1/mgmt/tenant/attribute?name=plan", Value::Null),
        ] {
            let script = Script::of([ok(&json!({}))]);
            let key = key();
            let items = NonEmpty::new(Item::new(&key, None, write));

            TenantAttributes.send(&script.client(), OF_TENANTS.main(), &items).await.unwrap();

            let received = script.received().remove(0);
            assert_eq!((received.line.as_str(), received.body), (line, expected));
        }
    }

    #[test]
    fn only_a_choice_has_options() {
        assert!(check(&document(json!({ "type": "multiselect", "options": ["a"] }))).is_empty());
        assert_eq!(check(&document(json!({ "type": "string", "options": ["a"] }))).len(), 1);
    }
}
