//! `outboundApps`: services that the users of the project connect their accounts to.

use super::Document;
use super::kind::Kind;
use super::kind::single;
use super::kind::unsendable;
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
use super::sso_application::ADDRESS;
use super::sso_application::REDIRECT;
use super::write::Answer;
use super::write::Item;
use super::write::Write;
use crate::descope::Call;
use crate::descope::Client;
use crate::descope::Error;
use crate::descope::Name;
use crate::descope::call::deletion;
use crate::descope::call::route;
use async_trait::async_trait;
use nonempty::NonEmpty;
use serde_json::Value;

const PARAMETER: Shape = Shape::Object(&[Field::name("key").required(), Field::text("value")]);

static SPEC: Spec = Spec {
    name: "outboundApps",
    identity: Identity::many("id"),
    parts: &[Part {
        name: MAIN,
        read: Read::List,
        how: How::Overwrite,
        fields: &[
            Field::name("id"),
            Field::name("name").required(),
            Field::text("description"),
            Field::text("logo"),
            Field::text("templateId"),
            Field::one_of("appType", &["", "oauth", "apikey"]),
            Field::text("clientId"),
            // A call without it keeps the stored one.
            Field::secret("clientSecret").omit_keeps(),
            Field::text("discoveryUrl"),
            Field::text("authorizationUrl"),
            Field::of("authorizationUrlParams", Shape::List(&PARAMETER)),
            Field::text("tokenUrl"),
            Field::of("tokenUrlParams", Shape::List(&PARAMETER)),
            Field::text("revocationUrl"),
            Field::set("defaultScopes"),
            Field::text("defaultRedirectUrl").risks(REDIRECT),
            Field::text("callbackDomain").risks(ADDRESS),
            Field::flag("pkce").risks(&[Risk::WeakerOff]),
            Field::one_of("accessType", &["", "offline", "online"]),
            Field::set("prompt"),
            Field::flag("useDcr"),
            Field::text("dcrUrl"),
            Field::reference("tenantId", "tenants").at_creation(),
        ],
    }],
    ..Spec::BASE
};

/// The kind.
#[derive(Debug)]
pub struct OutboundApps;

#[async_trait]
impl Kind for OutboundApps {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn listing(&self) -> Call {
        Call::list(route!(GET "/v1/mgmt/outbound/apps"), "apps", "id")
    }

    async fn send(
        &self,
        client: &Client,
        _part: &'static Part,
        items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, Error> {
        let item = single(items)?;
        let id = Name::new(&item.key.name)?;
        let call = match item.write {
            Write::Create(body) => {
                Call::create(route!(POST "/v1/mgmt/outbound/app/create"), with(body, "id", id.as_str()))
            }
            Write::Overwrite { body, .. } => {
                // Unlike the create, this one takes the application inside.
                let app = Value::Object(with(body, "id", id.as_str()));
                Call::update(
                    route!(POST "/v1/mgmt/outbound/app/update"),
                    Document::from_iter([("app".to_owned(), app)]),
                )
            }
            Write::Delete { .. } => Call::delete(deletion!(POST "/v1/mgmt/outbound/app/delete"), "id", id),
            Write::Patch(_) => return Err(unsendable(item)),
        };
        client.write(&call).await.map(|_| Vec::new())
    }
}
