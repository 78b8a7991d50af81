//! SSO applications: OIDC, SAML and WS-Fed. What a request says at its top stands inside the settings of an answer.

use super::stored;
use super::stored::PLAIN;
use super::stored::Stored;
use crate::simulator::api::Call;
use crate::simulator::api::Route;
use crate::simulator::api::project_write;
use crate::simulator::api::read;
use crate::simulator::entity;
use crate::simulator::entity::Content;
use crate::simulator::entity::Entity;
use crate::simulator::entity::Field;
use crate::simulator::entity::field;
use crate::simulator::fields::Document;
use crate::simulator::fields::Fields;
use crate::simulator::refusal::Refusal;
use crate::simulator::view;
use crate::simulator::view::Keyed;
use crate::simulator::view::Look;
use crate::simulator::world::Shelf;
use crate::simulator::world::World;
use serde_json::Value;
use serde_json::json;

const PLACE: Shelf<Entity> = Shelf::new("ssoApplications");
/// How the id of the application begins that every project has.
const DEFAULT: &str = "descope-default";

/// The kind.
pub const KIND: Stored = Stored {
    place: PLACE,
    routes: ROUTES,
    prefix: "SA",
    start: &[start],
    roles: &["groupsMapping[].roles[].name"],
    ..PLAIN
};

/// At the top of request and answer.
const COMMON: &[Field] = &[
    field("description", Content::Text),
    field("enabled", Content::Flag),
    field("logo", Content::Text),
    field("customAttributes", Content::Map),
    field("templateId", Content::Text).computed(),
];
const BEARER: &[Field] = &[
    field("issuers", Content::Map),
    field("jwtBearerGrantTypeAudienceToUse", Content::Text),
    field("jwtBearerGrantTypeScopeToUse", Content::Text),
    field("jwtBearerGrantTypeCustomClaimsToUse", Content::Text),
];
const OIDC: &[Field] = &[
    field("loginPageUrl", Content::Text),
    field("forceAuthentication", Content::Flag),
    field("jwtBearerSettings", Content::Nested(BEARER)),
    field("claims", Content::Set),
    field("customIdpInitiatedLoginPageUrl", Content::Text),
    field("backChannelLogoutUrl", Content::Text),
    field("clientType", Content::OneOf(&["confidential", "public"])),
    field("approvedRedirectUrls", Content::Set),
    field("authorizationCodeDisabled", Content::Flag),
    field("clientCredentialsDisabled", Content::Flag),
    field("refreshTokenDisabled", Content::Flag),
    field("jwtBearerDisabled", Content::Flag),
    field("deviceCodeDisabled", Content::Flag),
    field("forcePkce", Content::Flag),
    field("defaultAudience", Content::OneOf(&["projectId", "clientId"])),
    field("clientId", Content::Text).create_only(),
    field("clientSecret", Content::Text).secret(),
];
const SAML: &[Field] = &[
    field("loginPageUrl", Content::Text),
    field("forceAuthentication", Content::Flag),
    field("useMetadataInfo", Content::Flag),
    field("metadataUrl", Content::Text),
    field("entityId", Content::Text),
    field("acsUrl", Content::Text),
    field("certificate", Content::Text),
    field("errorRedirectURL", Content::Text),
    field("attributeMapping", Content::Things),
    field("groupsMapping", Content::Things),
    field("acsAllowedCallbacks", Content::Set),
    field("defaultRelayState", Content::Text),
    field("subjectNameIdType", Content::OneOf(&["email", "phone"])),
    field("subjectNameIdFormat", Content::Text),
    field("logoutRedirectUrl", Content::Text),
    field("defaultSignatureAlgorithm", Content::Text),
    field("idpCert", Content::Text).computed(),
    field("idpMetadataUrl", Content::Text).computed(),
    field("idpEntityId", Content::Text).computed(),
    field("idpSsoUrl", Content::Text).computed(),
    field("idpInitiatedUrl", Content::Text).computed(),
    field("idpLogoutUrl", Content::Text).computed(),
];
const WS_FED: &[Field] = &[
    field("loginPageUrl", Content::Text),
    field("forceAuthentication", Content::Flag),
    field("realm", Content::Text),
    field("replyUrl", Content::Text),
    field("replyAllowedCallbacks", Content::Set),
    field("attributeMapping", Content::Things),
    field("groupsMapping", Content::Things),
    field("logoutRedirectUrl", Content::Text),
    field("errorRedirectUrl", Content::Text),
    field("idpCert", Content::Text).computed(),
    field("idpMetadataUrl", Content::Text).computed(),
    field("idpEntityId", Content::Text).computed(),
    field("idpSsoUrl", Content::Text).computed(),
    field("idpInitiatedUrl", Content::Text).computed(),
];

/// The sorts of application: as an answer calls it, where its settings are, and its fields.
const SORTS: [(&str, &str, &[Field]); 3] =
    [("oidc", "oidcSettings", OIDC), ("saml", "samlSettings", SAML), ("wsfed", "wsFedSettings", WS_FED)];

const ROUTES: &[Route] = &[
    project_write("POST", "/v1/mgmt/sso/idp/app/oidc/create", |call| create(call, "oidc")),
    project_write("POST", "/v1/mgmt/sso/idp/app/saml/create", |call| create(call, "saml")),
    project_write("POST", "/v1/mgmt/sso/idp/app/wsfed/create", |call| create(call, "wsfed")),
    project_write("POST", "/v1/mgmt/sso/idp/app/oidc/update", |call| update(call, "oidc")),
    project_write("POST", "/v1/mgmt/sso/idp/app/saml/update", |call| update(call, "saml")),
    project_write("POST", "/v1/mgmt/sso/idp/app/wsfed/update", |call| update(call, "wsfed")),
    project_write("POST", "/v1/mgmt/sso/idp/app/delete", delete),
    read("GET", "/v1/mgmt/sso/idp/app/load", |call| {
        let row = stored::late(call, PLACE, "application", call.parameter("id")?)?;
        let answer = answer(&call.look(), &row);
        Ok(view::bytes(&answer))
    }),
    read("GET", "/v1/mgmt/sso/idp/apps/load", |call| {
        call.ends()?;
        Ok(stored::listed(call, PLACE, "apps", answer))
    }),
    read("GET", "/v1/mgmt/sso/idp/app/secret", |call| {
        let row = stored::late(call, PLACE, "application", call.parameter("id")?)?;
        Ok(view::bytes(&Keyed("cleartext", row.text("clientSecret"))))
    }),
    project_write("POST", "/v1/mgmt/sso/idp/app/rotate", |call| super::secrets::rotate(call, PLACE)),
    project_write("POST", "/v1/mgmt/sso/idp/app/secret/add", |call| super::secrets::add(call, PLACE, "appId")),
    project_write("POST", "/v1/mgmt/sso/idp/app/secret/revoke", |call| super::secrets::revoke(call, PLACE, "appId")),
];

fn start(world: &mut World) {
    let name = "OIDC default application".to_owned();
    let mut row = Entity { id: format!("{DEFAULT}-oidc"), name, ..Entity::default() };
    row.set("appType", "oidc");
    row.set("enabled", true);
    world.table_mut(PLACE).insert(row);
}

fn fields_of(sort: &str) -> &'static [Field] {
    SORTS.iter().find(|(name, ..)| *name == sort).map_or(OIDC, |(.., fields)| *fields)
}

fn table_of(sort: &str) -> Vec<Field> {
    let own = [field("appType", Content::Text).computed(), field("secrets", Content::Items).computed()];
    COMMON.iter().chain(fields_of(sort)).copied().chain(own).collect()
}

fn answer(look: &Look<'_>, row: &Entity) -> Document {
    let own = row.text("appType");
    let mut answer = entity::shown(&row.fields, &table_of(own), look);
    answer.remove("secrets");
    for (sort, place, table) in SORTS {
        if sort != own {
            answer.insert(place.to_owned(), Value::Null);
            continue;
        }
        let mut settings = Document::new();
        for field in table {
            if let Some(value) = answer.remove(field.name()) {
                settings.insert(field.name().to_owned(), value);
            }
        }
        if sort == "oidc" {
            settings.insert("issuer".to_owned(), json!("https://api.example.invalid/project"));
            let discovery = "https://api.example.invalid/project/.well-known/openid-configuration";
            settings.insert("discoveryUrl".to_owned(), json!(discovery));
            // A known defect: there is none until the type of client is set.
            if row.text("clientType").is_empty() {
                settings.insert("clientId".to_owned(), json!(""));
            }
        }
        if sort == "saml" {
            for name in ["idpMetadataUrl", "idpEntityId", "idpSsoUrl", "idpInitiatedUrl", "idpLogoutUrl"] {
                settings.insert(name.to_owned(), json!(format!("https://api.example.invalid/{}/{name}", row.id)));
            }
            settings.insert("idpCert".to_owned(), json!("CERT"));
        }
        answer.insert(place.to_owned(), Value::Object(settings));
    }
    answer.insert("id".to_owned(), json!(row.id));
    answer.insert("name".to_owned(), json!(row.name));
    answer
}

fn create(call: &mut Call<'_>, sort: &'static str) -> Result<Vec<u8>, Refusal> {
    if call.switches.free_plan {
        return Err(Refusal::Bare(403));
    }
    let mut fields = std::mem::take(&mut call.body);
    let id = fields.text("id")?.unwrap_or_default();
    let name = fields.required("name")?;
    let mut row = Entity { id, name, ..Entity::default() };
    entity::create(&mut row.fields, &table_of(sort), &mut fields, call.switches)?;
    fields.end(call.switches)?;
    check(&row, sort)?;
    if !row.id.is_empty() && call.world.table(PLACE).by_id(&row.id).is_some() {
        return Err(Refusal::Exists(format!("application {} already exists", row.id)));
    }
    stored::free_name(call.world, PLACE, "application", &row.name, None)?;
    if row.id.is_empty() {
        row.id = call.world.new_id(KIND.prefix);
    }
    row.set("appType", sort);
    if sort == "oidc" {
        if row.text("clientId").is_empty() {
            let client = call.world.new_id("C2");
            row.set("clientId", client);
        }
        if row.text("clientSecret").is_empty() {
            let secret = call.world.new_id("secret");
            row.set("clientSecret", secret);
        }
    }
    let answer = view::bytes(&Keyed("id", &row.id));
    call.world.table_mut(PLACE).insert(row);
    Ok(answer)
}

fn update(call: &mut Call<'_>, sort: &'static str) -> Result<Vec<u8>, Refusal> {
    let mut fields = std::mem::take(&mut call.body);
    let (number, mut row) = stored::by_id(call.world, PLACE, "application", &fields.required("id")?)?;
    if row.text("appType") != sort {
        return Err(Refusal::Invalid(format!("application {} is no {sort} application", row.id)));
    }
    row.name = fields.required("name")?;
    // The trap: sent on update, whatever it says, it clears the stored one.
    let clears = sort == "oidc" && fields.text("clientSecret")?.is_some();
    take_computed(&mut fields, sort)?;
    entity::overwrite(&mut row.fields, &table_of(sort), &mut fields, call.switches)?;
    if clears {
        row.set("clientSecret", "");
    }
    check(&row, sort)?;
    stored::free_name(call.world, PLACE, "application", &row.name, Some(number))?;
    call.world.table_mut(PLACE).replace(number, row);
    Ok(Call::nothing())
}

/// Go's update type has the field, which has no effect there.
fn take_computed(fields: &mut Fields, sort: &str) -> Result<(), Refusal> {
    if sort == "oidc" {
        fields.text("clientId")?;
    }
    Ok(())
}

fn check(row: &Entity, sort: &str) -> Result<(), Refusal> {
    let uses_metadata = row.fields.get("useMetadataInfo") == Some(&json!(true));
    if sort == "saml" && uses_metadata && row.text("metadataUrl").is_empty() {
        return Err(Refusal::required("metadataUrl"));
    }
    Ok(())
}

fn delete(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let id = call.body.text("id")?.unwrap_or_default();
    if call.switches.protected_built_ins && id.starts_with(DEFAULT) {
        return Err(Refusal::Bare(500));
    }
    call.body = [("id".to_owned(), json!(id))].into_iter().collect::<Document>().into();
    stored::delete(call, PLACE, "application")
}
