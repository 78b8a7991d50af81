//! Definitions of custom attributes: `userAttributes` and `ssoApplicationAttributes`, of which the API shows a list.
//!
//! The API tells the types by number in these calls and by word in others; the YAML writes the words.

use super::Document;
use super::Packed;
use super::fold::is_zero;
use super::kind::Kind;
use super::kind::creating;
use super::kind::packed;
use super::kind::single;
use super::kind::unsendable;
use super::risk::Risk;
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
use crate::descope::call::deletion;
use crate::descope::call::route;
use async_trait::async_trait;
use nonempty::NonEmpty;
use serde_json::Value;
use serde_json::json;

/// The word at place `n` is what the API calls `n + 1`.
pub(super) const TYPES: &[&str] = &["string", "number", "boolean", "singleselect", "multiselect", "date", "monthday"];

const FIELDS: &[Field] = &[
    Field::name("name").plain(20),
    Field::one_of("type", TYPES).required().at_creation(),
    Field::text("displayName"),
    Field::items("options", &["value"], &[Field::name("value").required(), Field::text("label")]),
    Field::set("viewPermissions").risks(OPENED),
    Field::set("editPermissions").risks(OPENED),
];

/// Without any, nobody needs one.
pub(super) const OPENED: &[Risk] = &[Risk::WeakerEmpty];

const MAIN_PART: Part = Part { name: MAIN, read: Read::List, how: How::Overwrite, fields: FIELDS };

const BASE: Spec = Spec { identity: Identity::many("name"), in_settings: true, check, ..Spec::BASE };

static OF_USERS: Spec = Spec { name: "userAttributes", parts: &[MAIN_PART], ..BASE };

static OF_APPLICATIONS: Spec = Spec { name: "ssoApplicationAttributes", parts: &[MAIN_PART], ..BASE };

/// The type of one that exists, in its own words: the calls want it, and it never changes, so it is no field of theirs.
pub(super) const TYPE: &str = "@type";

/// The attributes of users.
#[derive(Debug)]
pub struct UserAttributes;

/// The attributes of SSO applications.
#[derive(Debug)]
pub struct SsoApplicationAttributes;

#[async_trait]
impl Kind for UserAttributes {
    fn spec(&self) -> &'static Spec {
        &OF_USERS
    }

    fn listing(&self) -> Call {
        Call::list(route!(GET "/v1/mgmt/user/customattributes"), "data", "name")
    }

    async fn observe(&self, client: &Client) -> Result<Vec<Packed>, Error> {
        observe(client, &self.listing()).await
    }

    async fn send(
        &self,
        client: &Client,
        _part: &'static Part,
        items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, Error> {
        let item = single(items)?;
        let call = match item.write {
            Write::Create(_) => {
                Call::create(route!(POST "/v1/mgmt/user/customattribute/create"), numbered(item, creating(item)?)?)
            }
            // What the call above does to one that exists no source tells; this one is made for it.
            Write::Overwrite { body, .. } => Call::update(route!(POST "/v1/mgmt/user/attribute"), worded(item, body)?),
            Write::Delete { .. } => deletion_of(deletion!(POST "/v1/mgmt/user/customattribute/delete"), item)?,
            Write::Patch(_) => return Err(unsendable(item)),
        };
        client.write(&call).await.map(|_| Vec::new())
    }
}

#[async_trait]
impl Kind for SsoApplicationAttributes {
    fn spec(&self) -> &'static Spec {
        &OF_APPLICATIONS
    }

    fn listing(&self) -> Call {
        Call::list(route!(GET "/v1/mgmt/sso/idp/app/customattributes"), "data", "name")
    }

    async fn observe(&self, client: &Client) -> Result<Vec<Packed>, Error> {
        observe(client, &self.listing()).await
    }

    async fn send(
        &self,
        client: &Client,
        _part: &'static Part,
        items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, Error> {
        let item = single(items)?;
        // One call that creates or updates.
        let route = route!(POST "/v1/mgmt/sso/idp/app/customattribute/create");
        let call = match item.write {
            Write::Create(_) => Call::create(route, numbered(item, creating(item)?)?),
            Write::Overwrite { body, .. } => Call::update(route, numbered(item, body.clone())?),
            Write::Delete { .. } => deletion_of(deletion!(POST "/v1/mgmt/sso/idp/app/customattribute/delete"), item)?,
            Write::Patch(_) => return Err(unsendable(item)),
        };
        client.write(&call).await.map(|_| Vec::new())
    }
}

/// The definitions, their types as words.
async fn observe(client: &Client, listing: &Call) -> Result<Vec<Packed>, Error> {
    let mut found = client.documents(listing).await?;
    for definition in &mut found {
        let number = definition.get("type").and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok());
        let word = number.and_then(|number| TYPES.get(number.checked_sub(1)?));
        let Some(word) = word else {
            let what = format!("an attribute of type {}", definition.get("type").unwrap_or(&Value::Null));
            return Err(Error::Undocumented { operation: listing.operation(), what });
        };
        definition.insert("type".to_owned(), Value::from(*word));
        definition.insert(TYPE.to_owned(), Value::from(*word));
    }
    Ok(packed(found))
}

fn deletion_of(route: Deletion, item: &Item<'_>) -> Result<Call, Error> {
    Ok(Call::delete_all_of(route, "names", &NonEmpty::new(Name::new(&item.key.name)?)))
}

/// The word for the type, which leaves the body.
fn take_type(item: &Item<'_>, body: &mut Document) -> Result<String, Error> {
    let (known, declared) = (body.remove(TYPE), body.remove("type"));
    let word = known.or(declared).and_then(|word| word.as_str().map(str::to_owned));
    word.ok_or_else(|| unsendable(item))
}

/// As the calls take it that tell the type by number.
fn numbered(item: &Item<'_>, mut body: Document) -> Result<Document, Error> {
    let word = take_type(item, &mut body)?;
    let number = TYPES.iter().position(|known| **known == *word).map_or(1, |place| place + 1);
    body.insert("type".to_owned(), number.into());
    Ok(Document::from_iter([("attributes".to_owned(), json!([body]))]))
}

/// As the calls take it that tell the type by word. They know an option by its value alone.
fn worded(item: &Item<'_>, body: &Document) -> Result<Document, Error> {
    let mut body = body.clone();
    let word = take_type(item, &mut body)?;
    body.insert("type".to_owned(), word.into());
    body.remove("defaultValue");
    // What it does not carry stays as it is, labels included.
    let options = body.remove("options").filter(|_| item.changed.iter().any(|path| path.starts_with("options")));
    if let Some(Value::Array(options)) = options {
        if options.iter().any(has_label) {
            let what = format!(
                "the call that changes the options of {} takes their values alone and would drop the labels; change them in \
                 the console, and the files after it",
                item.key
            );
            return Err(Error::Unsendable { operation: item.key.kind, what });
        }
        let values = options.iter().filter_map(|option| option.get("value").cloned());
        body.insert("options".to_owned(), values.collect());
    }
    Ok(body)
}

/// Are the values of this type one or some of its options?
pub(super) fn is_choice(word: &str) -> bool {
    matches!(word, "singleselect" | "multiselect")
}

/// One that is not just its value.
fn has_label(option: &Value) -> bool {
    option.get("label").is_some_and(|label| !is_zero(label) && Some(label) != option.get("value"))
}

/// Only a choice has options.
fn check(declared: &Document) -> Vec<(&'static str, String)> {
    let word = declared.get("type").and_then(Value::as_str).unwrap_or_default();
    let has_options = declared.get("options").is_some_and(|options| !is_zero(options));
    if has_options && !word.is_empty() && !is_choice(word) {
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
    use crate::resource::Key;

    async fn sent(kind: &dyn Kind, write: Write) -> (String, Value) {
        let (line, body) = tried(kind, &write, "displayName").await.unwrap();
        (line, body)
    }

    async fn tried(kind: &dyn Kind, write: &Write, changed: &str) -> Result<(String, Value), Error> {
        let key = Key::new(kind.name(), "plan");
        let script = Script::of([ok(&json!({}))]);
        let changed = [changed.to_owned()];
        let items = NonEmpty::new(Item { changed: &changed, ..Item::new(&key, None, write) });
        kind.send(&script.client(), kind.spec().main(), &items).await?;
        let received = script.received().remove(0);
        Ok((received.line, received.body))
    }

    fn change() -> Write {
        let body = json!({ "name": "plan", "@type": "singleselect", "displayName": "Plan", "defaultValue": null,
            "options": [{ "value": "gold", "label": "Gold" }] });
        Write::Overwrite { from: "plan".into(), body: document(body) }
    }

    #[tokio::test(start_paused = true)]
    async fn types_are_words_to_us_and_numbers_to_the_lists() {
        let script = Script::of([ok(&json!({ "data": [{ "name": "plan", "type": 4 }] }))]);

        let found = UserAttributes.list(&script.client()).await.unwrap();

        assert_eq!(found.all(), [document(json!({ "name": "plan", "type": "singleselect", "@type": "singleselect" }))]);
        let create = Write::Create(document(json!({ "name": "plan", "type": "date" })));
        let expected = json!({ "attributes": [{ "name": "plan", "type": 6 }] });
        assert_eq!(sent(&UserAttributes, create).await.1, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_type_that_nobody_knows_makes_the_list_unusable() {
        for unknown in [json!(0), json!(8), json!("x"), Value::Null] {
            let script = Script::of([ok(&json!({ "data": [{ "name": "plan", "type": unknown }] }))]);

            let found = UserAttributes.list(&script.client()).await;

            assert!(matches!(found, Err(Error::Undocumented { .. })), "{found:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn labels_that_a_call_cannot_carry_are_not_lost_by_it() {
        let refused = tried(&UserAttributes, &change(), "options[gold].label").await.unwrap_err();
        assert!(refused.to_string().contains("would drop the labels"), "{refused}");

        let options = json!([{ "value": "a", "label": "a" }, { "value": "b" }, { "value": "c", "label": "" }]);
        let body = json!({ "name": "plan", "@type": "singleselect", "options": options });
        let write = Write::Overwrite { from: "plan".into(), body: document(body) };
        let (_, sent) = tried(&UserAttributes, &write, "options[b].value").await.unwrap();
        assert_eq!(sent["options"], json!(["a", "b", "c"]));
    }

    #[tokio::test(start_paused = true)]
    async fn each_entity_changes_a_definition_by_a_call_of_its_own() {
        let of_users = json!({ "name": "plan", "type": "singleselect", "displayName": "Plan" });
        let of_applications = json!({ "attributes": [{ "name": "plan", "type": 4, "displayName": "Plan",
            "defaultValue": null, "options": [{ "value": "gold", "label": "Gold" }] }] });

        assert_eq!(sent(&UserAttributes, change()).await, ("POST /v1/mgmt/user/attribute".to_owned(), of_users));
        let line = "POST /v1/mgmt/sso/idp/app/customattribute/create".to_owned();
        assert_eq!(sent(&SsoApplicationAttributes, change()).await, (line, of_applications));
    }

    #[test]
    fn only_a_choice_has_options() {
        let options = json!([{ "value": "a" }]);

        assert!(check(&document(json!({ "type": "singleselect", "options": options }))).is_empty());
        assert!(check(&document(json!({ "type": "date", "options": [] }))).is_empty());
        assert_eq!(check(&document(json!({ "type": "date", "options": options }))).len(), 1);
    }
}
