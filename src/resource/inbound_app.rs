//! `inboundApps`: applications of others that ask the users of the project for access.

use super::Packed;
use super::kind::Kind;
use super::kind::creating;
use super::kind::id_of;
use super::kind::packed;
use super::kind::shown_once;
use super::kind::single;
use super::kind::text;
use super::kind::with;
use super::risk::Risk;
use super::spec::Field;
use super::spec::How;
use super::spec::Identity;
use super::spec::MAIN;
use super::spec::Part;
use super::spec::Read;
use super::spec::Shape;
use super::spec::Spec;
use super::spec::Verbs;
use super::sso_application::ADDRESS;
use super::sso_application::ISSUERS;
use super::sso_application::REDIRECTS;
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

const MAPPING: Shape = Shape::Object(&[
    Field::name("scope").required(),
    Field::text("description"),
    Field::of("claims", Shape::Json),
    Field::flag("useProjectMapping"),
    Field::flag("mandatory"),
]);

static SPEC: Spec = Spec {
    name: "inboundApps",
    identity: Identity::many("name").server_id("id"),
    parts: &[Part {
        name: MAIN,
        read: Read::List,
        how: How::Patch,
        fields: &[
            Field::name("name"),
            Field::name("id"),
            Field::text("description"),
            Field::text("logo"),
            Field::text("loginPageUrl").server_default().risks(ADDRESS),
            Field::set("approvedCallbackUrls").risks(REDIRECTS),
            Field::items(
                "permissionsScopes",
                &["name"],
                &[
                    Field::name("name").required(),
                    Field::text("description"),
                    Field::set("values"),
                    Field::flag("optional"),
                ],
            ),
            Field::of("scopeClaimMapping", Shape::List(&MAPPING)),
            Field::object("jwtBearerSettings", &[ISSUERS]),
            Field::of("customAttributes", Shape::Attributes),
            Field::flag("forcePkce").risks(&[Risk::WeakerOff]),
            Field::one_of("defaultAudience", &["", "projectId", "clientId"]),
            // Newer than the others, so that an answer may lack them. Every call that overwrites resets them: there is none
            // here, but the patch, which leaves alone what it does not carry.
            Field::one_of("clientType", &["", "confidential", "public"])
                .maybe_returned()
                .risks(&[Risk::WeakerChanged("public")]),
            Field::flag("forceDpop").maybe_returned().risks(&[Risk::WeakerOff]),
            Field::text("clientId").computed(),
            Field::flag("dynamic").computed(),
            Field::text("status").computed(),
        ],
    }],
    verbs: Verbs { rename: true, ..Verbs::ALL },
    shows_secret: true,
    ..Spec::BASE
};

/// The answers say how many there are in all; one that never comes to an end is none to believe.
const MOST_PAGES: usize = 1000;

fn asking_for(page: usize) -> Call {
    // A limit of 0 is the server's own.
    Call::object(route!(POST "/v2/mgmt/thirdparty/apps/load")).asking(json!({ "page": page, "limit": 0 }))
}

fn undocumented(what: &str) -> Error {
    Error::Undocumented { operation: asking_for(0).operation(), what: what.to_owned() }
}

/// A number, or the text of one: 64-bit numbers arrive so.
fn count(value: &Value) -> Option<usize> {
    let text = value.as_str().and_then(|text| text.parse().ok());
    text.or_else(|| usize::try_from(value.as_u64()?).ok())
}

/// The kind.
#[derive(Debug)]
pub struct InboundApps;

#[async_trait]
impl Kind for InboundApps {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn listing(&self) -> Call {
        asking_for(0)
    }

    async fn observe(&self, client: &Client) -> Result<Vec<Packed>, Error> {
        let mut found = Vec::new();
        for page in 0..MOST_PAGES {
            let mut answer = client.read(&asking_for(page)).await?;
            let total = answer.get("total").and_then(count);
            let Some(Value::Array(apps)) = answer.remove("apps") else {
                return Err(undocumented("no list under `apps`"));
            };
            let is_last = apps.is_empty();
            for app in apps {
                let Value::Object(app) = app else { return Err(undocumented("an application that is no object")) };
                found.push(app);
            }
            match total {
                Some(total) if found.len() == total => return Ok(packed(found)),
                // What came or went between two pages may be missing in both.
                Some(total) if is_last || found.len() > total => {
                    return Err(undocumented("pages that do not add up to their total"));
                }
                None if is_last => return Ok(packed(found)),
                Some(_) | None => {}
            }
        }
        Err(undocumented("pages without end"))
    }

    async fn send(
        &self,
        client: &Client,
        _part: &'static Part,
        items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, Error> {
        let item = single(items)?;
        let call = match item.write {
            Write::Create(_) => Call::create(route!(POST "/v2/mgmt/thirdparty/app/create"), creating(item)?),
            Write::Patch(body) => {
                let mut body = with(body, "id", id_of(item)?.as_str());
                // It writes every key that it is given, so the name of a moment ago would undo a rename.
                body.remove("name");
                Call::update(route!(POST "/v2/mgmt/thirdparty/app/patch"), body)
            }
            // A rename: it carries what else changes, and what it leaves out stays.
            Write::Overwrite { body, .. } => {
                let body = with(body, "id", id_of(item)?.as_str());
                Call::update(route!(POST "/v2/mgmt/thirdparty/app/patch"), body).once_only()
            }
            Write::Delete { .. } => Call::delete(deletion!(POST "/v1/mgmt/thirdparty/app/delete"), "id", id_of(item)?),
        };
        let answer = client.write(&call).await?;
        Ok(vec![Answer { id: text(&answer, "id").map(Into::into), shown_once: shown_once(&answer) }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descope::script::Script;
    use crate::descope::script::document;
    use crate::descope::script::ok;
    use crate::resource::Key;

    fn page(names: &[&str], total: &Value) -> Value {
        let app = |name: &&str| json!({ "id": format!("TP{name}"), "name": name });
        json!({ "apps": names.iter().map(app).collect::<Vec<Value>>(), "total": total })
    }

    #[tokio::test(start_paused = true)]
    async fn pages_are_asked_for_until_all_are_there() {
        let with_total = [page(&["a", "b"], &json!(3)), page(&["c"], &json!("3"))];
        let without = [page(&["a", "b"], &Value::Null), page(&["c"], &Value::Null), page(&[], &Value::Null)];
        for pages in [&with_total[..], &without] {
            let script = Script::of(pages.iter().map(ok).collect::<Vec<_>>());

            let found = InboundApps.list(&script.client()).await.unwrap();

            assert_eq!(found.len(), 3);
            let asked = script.received().into_iter().map(|received| received.body["page"].clone());
            assert_eq!(asked.collect::<Vec<Value>>(), (0..pages.len()).map(Value::from).collect::<Vec<_>>());
        }
    }

    /// What is missing would have been made a second time.
    #[tokio::test(start_paused = true)]
    async fn pages_that_are_not_the_whole_are_no_observation() {
        for pages in [
            vec![json!({ "total": 0 })],
            vec![page(&["a"], &json!(2)), page(&[], &json!(2))],
            vec![page(&["a", "b"], &json!(1))],
        ] {
            let script = Script::of(pages.iter().map(ok).collect::<Vec<_>>());

            let found = InboundApps.list(&script.client()).await;

            assert!(matches!(found, Err(Error::Undocumented { .. })), "{found:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_goes_by_the_id_and_carries_nothing_else() {
        let key = Key::new("inboundApps", "Partner");
        for (write, expected) in [
            (Write::Patch(document(json!({ "name": "Partner", "logo": "" }))), json!({ "id": "TP1", "logo": "" })),
            (
                Write::Overwrite { from: "Old".into(), body: document(json!({ "name": "Partner" })) },
                json!({ "id": "TP1", "name": "Partner" }),
            ),
        ] {
            let script = Script::of([ok(&json!({}))]);
            let items = NonEmpty::new(Item::new(&key, Some("TP1"), &write));

            InboundApps.send(&script.client(), SPEC.main(), &items).await.unwrap();

            let received = script.received().remove(0);
            assert_eq!((received.line.as_str(), received.body), ("POST /v2/mgmt/thirdparty/app/patch", expected));
        }
    }
}
