//! `ssoApplications`: applications for which Descope is the identity provider, over OIDC, SAML or WS-Federation.
//!
//! Requests write every field beside the others; answers hold those of the protocol inside, in `oidcSettings` and the like.

use super::Document;
use super::Packed;
use super::fold::is_zero;
use super::kind::Kind;
use super::kind::packed;
use super::kind::single;
use super::kind::unsendable;
use super::kind::with;
use super::risk::Risk;
use super::spec::Builtin;
use super::spec::Field;
use super::spec::How;
use super::spec::Identity;
use super::spec::InTenant;
use super::spec::MAIN;
use super::spec::Part;
use super::spec::Read;
use super::spec::Shape;
use super::spec::Spec;
use super::spec::To;
use super::write::Answer;
use super::write::Item;
use super::write::Write;
use crate::descope::Call;
use crate::descope::Client;
use crate::descope::Error;
use crate::descope::Name;
use crate::descope::call::Route;
use crate::descope::call::deletion;
use crate::descope::call::route;
use async_trait::async_trait;
use nonempty::NonEmpty;
use serde_json::Value;

/// By `type`: where answers hold the fields of the protocol, in either spelling, and which fields those are.
const PROTOCOLS: [(&str, &[&str], &[&str]); 3] = [
    (
        "oidc",
        &["oidcSettings"],
        &[
            "jwtBearerSettings",
            "claims",
            "customIdpInitiatedLoginPageUrl",
            "backChannelLogoutUrl",
            "clientType",
            "approvedRedirectUrls",
            "authorizationCodeDisabled",
            "clientCredentialsDisabled",
            "refreshTokenDisabled",
            "jwtBearerDisabled",
            "deviceCodeDisabled",
            "forcePkce",
            "defaultAudience",
            "clientId",
            "clientSecret",
        ],
    ),
    (
        "saml",
        &["samlSettings"],
        &[
            "useMetadataInfo",
            "metadataUrl",
            "entityId",
            "acsUrl",
            "certificate",
            "errorRedirectURL",
            "attributeMapping",
            "groupsMapping",
            "acsAllowedCallbacks",
            "defaultRelayState",
            "subjectNameIdType",
            "subjectNameIdFormat",
            "logoutRedirectUrl",
            "defaultSignatureAlgorithm",
        ],
    ),
    (
        "wsfed",
        &["wsFedSettings", "wsfedSettings"],
        &[
            "realm",
            "replyUrl",
            "replyAllowedCallbacks",
            "attributeMapping",
            "groupsMapping",
            "logoutRedirectUrl",
            "errorRedirectUrl",
        ],
    ),
];

/// Which call updates an application: it is in the path, and so in no body.
const PROTOCOL: &str = "@protocol";

/// Of a list of addresses that people are sent back to.
pub const REDIRECTS: &[Risk] = &[Risk::WeakerWildcard, Risk::LocksHalved];

/// Of the one address that people are sent back to.
pub const REDIRECT: &[Risk] = &[Risk::WeakerWildcard, Risk::LocksEmpty];

/// Of an address that people are sent to at times.
pub const ADDRESS: &[Risk] = &[Risk::WeakerWildcard];

const ISSUER: Shape = Shape::Object(&[
    Field::text("jwksUri"),
    Field::text("signAlgorithm"),
    Field::text("userInfoUri"),
    Field::text("externalIdFieldName"),
]);

/// Whose tokens an application trusts, by address.
pub(super) const ISSUERS: Field = Field::of("issuers", Shape::Map(&ISSUER));

const JWT_BEARER: &[Field] = &[
    ISSUERS,
    Field::text("jwtBearerGrantTypeAudienceToUse"),
    Field::text("jwtBearerGrantTypeScopeToUse"),
    Field::text("jwtBearerGrantTypeCustomClaimsToUse"),
];

const MAPPED_ROLE: &[Field] = &[
    Field::of("name", Shape::Reference(To { kind: "roles", tenant: InTenant::No })).required(),
    Field::text("id").computed(),
];

static SPEC: Spec = Spec {
    name: "ssoApplications",
    identity: Identity::many("id"),
    parts: &[Part {
        name: MAIN,
        read: Read::List,
        how: How::Overwrite,
        fields: &[
            Field::name("id"),
            Field::one_of("type", &["oidc", "saml", "wsfed"]).required().at_creation(),
            Field::name("name").required().exclusive(),
            Field::text("description"),
            Field::flag("enabled").starts_as("true").risks(&[Risk::LocksOff]),
            Field::text("logo"),
            Field::text("loginPageUrl").risks(ADDRESS),
            Field::flag("forceAuthentication").risks(&[Risk::WeakerOff]),
            Field::attributes("customAttributes", "ssoApplicationAttributes"),
            // OIDC.
            Field::object("jwtBearerSettings", JWT_BEARER),
            Field::set("claims"),
            Field::text("customIdpInitiatedLoginPageUrl").risks(ADDRESS),
            Field::text("backChannelLogoutUrl").risks(ADDRESS),
            Field::one_of("clientType", &["", "confidential", "public"]).risks(&[Risk::WeakerAs("public")]),
            Field::set("approvedRedirectUrls").risks(REDIRECTS),
            Field::flag("authorizationCodeDisabled").risks(&[Risk::WeakerOff, Risk::LocksOn]),
            Field::flag("clientCredentialsDisabled").risks(&[Risk::WeakerOff]),
            Field::flag("refreshTokenDisabled").risks(&[Risk::WeakerOff]),
            Field::flag("jwtBearerDisabled").risks(&[Risk::WeakerOff]),
            Field::flag("deviceCodeDisabled").risks(&[Risk::WeakerOff]),
            Field::flag("forcePkce").risks(&[Risk::WeakerOff]),
            Field::one_of("defaultAudience", &["", "projectId", "clientId"]),
            Field::text("clientId").at_creation().maybe_returned(),
            // An overwriting call must not carry it: it would clear what is stored.
            Field::secret("clientSecret").at_creation().omit_keeps(),
            // SAML.
            Field::flag("useMetadataInfo"),
            Field::text("metadataUrl"),
            Field::text("entityId"),
            Field::text("acsUrl").risks(REDIRECT),
            Field::text("certificate").risks(&[Risk::WeakerEmpty]),
            Field::text("errorRedirectURL").risks(ADDRESS),
            Field::set("acsAllowedCallbacks").risks(REDIRECTS),
            Field::text("defaultRelayState"),
            Field::one_of("subjectNameIdType", &["", "email", "phone"]),
            Field::text("subjectNameIdFormat"),
            // Empty stands for SHA-1.
            Field::one_of("defaultSignatureAlgorithm", &["", "sha256"]).risks(&[Risk::WeakerEmpty]),
            // SAML and WS-Federation.
            Field::items(
                "attributeMapping",
                &["name"],
                &[Field::name("name").required(), Field::text("type"), Field::text("value")],
            ),
            Field::items(
                "groupsMapping",
                &["name"],
                &[
                    Field::name("name").required(),
                    Field::text("type"),
                    Field::text("filterType"),
                    Field::text("value"),
                    Field::items("roles", &["name"], MAPPED_ROLE),
                ],
            ),
            Field::text("logoutRedirectUrl").risks(ADDRESS),
            // WS-Federation.
            Field::text("realm"),
            Field::text("replyUrl").risks(REDIRECT),
            Field::set("replyAllowedCallbacks").risks(REDIRECTS),
            Field::text("errorRedirectUrl").risks(ADDRESS),
            Field::text("appType").computed(),
            Field::text("templateId").computed(),
            Field::text("issuer").computed(),
            Field::text("discoveryUrl").computed(),
            Field::text("idpCert").computed(),
            Field::text("idpMetadataUrl").computed(),
            Field::text("idpEntityId").computed(),
            Field::text("idpSsoUrl").computed(),
            Field::text("idpInitiatedUrl").computed(),
            Field::text("idpLogoutUrl").computed(),
        ],
    }],
    builtin: Builtin::Prefix("descope-default"),
    check,
    ..Spec::BASE
};

/// The kind.
#[derive(Debug)]
pub struct SsoApplications;

#[async_trait]
impl Kind for SsoApplications {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn listing(&self) -> Call {
        Call::list(route!(GET "/v1/mgmt/sso/idp/apps/load"), "apps", "id")
    }

    async fn observe(&self, client: &Client) -> Result<Vec<Packed>, Error> {
        let apps = client.documents(&self.listing()).await?.into_iter().map(|app| self.flat(app));
        Ok(packed(apps.collect::<Result<Vec<_>, _>>()?))
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
                let (protocol, mut body) = protocol_of(item, body)?;
                // A create without it makes one that is off.
                body.entry("enabled").or_insert(Value::Bool(true));
                Call::create(creation(protocol), with(&body, "id", id.as_str()))
            }
            Write::Overwrite { body, .. } => {
                let (protocol, body) = protocol_of(item, body)?;
                Call::update(update(protocol), with(&body, "id", id.as_str()))
            }
            Write::Delete { .. } => Call::delete(deletion!(POST "/v1/mgmt/sso/idp/app/delete"), "id", id),
            Write::Patch(_) => return Err(unsendable(item)),
        };
        client.write(&call).await.map(|_| Vec::new())
    }
}

impl SsoApplications {
    /// An answer in the form of requests: what its protocol has inside, beside the rest.
    fn flat(&self, mut app: Document) -> Result<Document, Error> {
        let operation = self.listing().operation();
        let mut found = None;
        for (protocol, places, _) in PROTOCOLS {
            for place in places {
                match app.remove(*place) {
                    Some(Value::Object(settings)) => found = Some((protocol, settings)),
                    None | Some(Value::Null) => {}
                    Some(_) => {
                        let what = format!("{place} that is no object");
                        return Err(Error::Undocumented { operation, what });
                    }
                }
            }
        }
        let Some((protocol, settings)) = found else {
            let what = "an application without settings of OIDC, SAML or WS-Federation".to_owned();
            return Err(Error::Undocumented { operation, what });
        };
        app.extend(settings);
        // Descope gives one later to an application that has none yet.
        if app.get("clientId").is_some_and(is_zero) {
            app.remove("clientId");
        }
        app.insert("type".to_owned(), protocol.into());
        app.insert(PROTOCOL.to_owned(), protocol.into());
        Ok(app)
    }
}

/// The protocol of the application, and the body that the calls of that protocol take.
fn protocol_of<'b>(item: &Item<'_>, body: &'b Document) -> Result<(&'b str, Document), Error> {
    let protocol = body.get(PROTOCOL).or_else(|| body.get("type")).and_then(Value::as_str);
    let mut kept = body.clone();
    kept.remove(PROTOCOL);
    kept.remove("type");
    Ok((protocol.ok_or_else(|| unsendable(item))?, kept))
}

/// Which protocols have a field of this name; none where every application has it.
fn protocols_with(field: &str) -> Vec<&'static str> {
    PROTOCOLS.iter().filter(|(_, _, fields)| fields.contains(&field)).map(|(name, ..)| *name).collect()
}

/// The fields of another protocol mean nothing to an application.
fn check(declared: &Document) -> Vec<(&'static str, String)> {
    let Some(own) = declared.get("type").and_then(Value::as_str) else { return Vec::new() };
    let foreign = |field: &&Field| {
        let protocols = protocols_with(field.name);
        declared.contains_key(field.name) && !protocols.is_empty() && !protocols.contains(&own)
    };
    let mut wrong: Vec<(&'static str, String)> = SPEC
        .main()
        .fields
        .iter()
        .filter(foreign)
        .map(|field| {
            let others = protocols_with(field.name).join("` and `");
            (field.name, format!("is a field of type `{others}`, and this application is of type `{own}`"))
        })
        .collect();
    let is_set = |field: &str| declared.get(field).is_some_and(|value| !is_zero(value));
    if is_set("useMetadataInfo") && declared.contains_key("metadataUrl") && !is_set("metadataUrl") {
        wrong.push(("metadataUrl", "must not be empty where `useMetadataInfo` is true".to_owned()));
    }
    wrong
}

fn creation(protocol: &str) -> Route {
    match protocol {
        "oidc" => route!(POST "/v1/mgmt/sso/idp/app/oidc/create"),
        "saml" => route!(POST "/v1/mgmt/sso/idp/app/saml/create"),
        _ => route!(POST "/v1/mgmt/sso/idp/app/wsfed/create"),
    }
}

fn update(protocol: &str) -> Route {
    match protocol {
        "oidc" => route!(POST "/v1/mgmt/sso/idp/app/oidc/update"),
        "saml" => route!(POST "/v1/mgmt/sso/idp/app/saml/update"),
        _ => route!(POST "/v1/mgmt/sso/idp/app/wsfed/update"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descope::script::Script;
    use crate::descope::script::document;
    use crate::descope::script::ok;
    use crate::resource::Key;
    use serde_json::json;

    #[tokio::test(start_paused = true)]
    async fn what_an_answer_has_inside_stands_beside_the_rest() {
        let script = Script::of([ok(&json!({ "apps": [
            { "id": "a", "name": "A", "appType": "oidc", "samlSettings": null, "oidcSettings": { "clientId": "", "forcePkce": true } },
            { "id": "b", "name": "B", "wsfedSettings": { "realm": "r" } },
        ] }))]);

        let found = SsoApplications.list(&script.client()).await.unwrap();

        let expected = [
            json!({ "id": "a", "name": "A", "appType": "oidc", "type": "oidc", "@protocol": "oidc", "forcePkce": true }),
            json!({ "id": "b", "name": "B", "type": "wsfed", "@protocol": "wsfed", "realm": "r" }),
        ];
        assert_eq!(found.all(), expected.map(document));
    }

    #[tokio::test(start_paused = true)]
    async fn an_application_of_no_known_protocol_makes_the_list_unusable() {
        let script = Script::of([ok(&json!({ "apps": [{ "id": "a", "name": "A" }] }))]);

        let found = SsoApplications.list(&script.client()).await;

        assert!(matches!(found, Err(Error::Undocumented { .. })), "{found:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn each_protocol_has_calls_of_its_own() {
        let key = Key::new("ssoApplications", "a");
        let create = Write::Create(document(json!({ "id": "a", "type": "saml", "name": "A" })));
        let body = document(json!({ "@protocol": "wsfed", "name": "A", "enabled": false }));
        let update = Write::Overwrite { from: "a".into(), body };
        for (write, line, expected) in [
            (create, "POST /v1/mgmt/sso/idp/app/saml/create", json!({ "id": "a", "name": "A", "enabled": true })),
            (update, "POST /v1/mgmt/sso/idp/app/wsfed/update", json!({ "id": "a", "name": "A", "enabled": false })),
            (Write::Delete { cascade: false }, "POST /v1/mgmt/sso/idp/app/delete", json!({ "id": "a" })),
        ] {
            let script = Script::of([ok(&json!({}))]);
            let items = NonEmpty::new(Item::new(&key, None, &write));

            SsoApplications.send(&script.client(), SPEC.main(), &items).await.unwrap();

            let received = script.received().remove(0);
            assert_eq!((received.line.as_str(), received.body), (line, expected));
        }
    }

    #[test]
    fn fields_of_another_protocol_are_refused() {
        let found =
            check(&document(json!({ "type": "oidc", "realm": "r", "logoutRedirectUrl": "u", "forcePkce": true })));

        let expected = [
            ("logoutRedirectUrl", "is a field of type `saml` and `wsfed`, and this application is of type `oidc`"),
            ("realm", "is a field of type `wsfed`, and this application is of type `oidc`"),
        ];
        assert_eq!(found, expected.map(|(field, message)| (field, message.to_owned())));
    }
}
