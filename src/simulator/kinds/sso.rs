//! SSO configurations of tenants, several by `ssoId`. What a request says is stored in its own words; an answer says it in
//! others, in other places.

use super::roles;
use super::stored;
use super::stored::Key;
use super::stored::PLAIN;
use super::stored::Stored;
use super::tenants;
use super::tenants::Tenant;
use crate::simulator::api::Call;
use crate::simulator::api::Route;
use crate::simulator::api::read;
use crate::simulator::api::write;
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
use crate::simulator::view::View;
use crate::simulator::world::Shelf;
use serde_json::Value;
use serde_json::json;

const PLACE: Shelf<Entity> = Shelf::new("sso");

/// The kind.
pub const KIND: Stored = Stored {
    place: PLACE,
    routes: ROUTES,
    key: Key::InTenant,
    secrets: &["spEncryptionKey", "spSignKey"],
    roles: &[
        "saml.roleMappings[].roleName",
        "saml.defaultSSORoles",
        "oidc.roleMappings[].roleName",
        "oidc.defaultSSORoles",
    ],
    ..PLAIN
};

const ROUTES: &[Route] = &[
    read("GET", "/v2/mgmt/sso/settings", load),
    read("GET", "/v2/mgmt/sso/settings/all", all),
    write("POST", "/v1/mgmt/sso/settings/new", new),
    write("POST", "/v1/mgmt/sso/saml", |call| saml(call, SAML)),
    write("POST", "/v1/mgmt/sso/saml/metadata", |call| saml(call, METADATA)),
    write("POST", "/v1/mgmt/sso/oidc", oidc),
    write("POST", "/v1/mgmt/sso/redirect", redirect),
    write("POST", "/v1/mgmt/sso/settings/authtype", auth_type),
    write("DELETE", "/v1/mgmt/sso/settings", delete),
    write("POST", "/v1/mgmt/sso/recalculate-mappings", |call| {
        tenants::number(call.world, &call.body.required("tenantId")?)?;
        call.body.text("ssoId")?;
        call.ends()?;
        Ok(Call::nothing())
    }),
];

const MAPPING: &[Field] = &[
    field("name", Content::Text),
    field("email", Content::Text),
    field("username", Content::Text),
    field("phoneNumber", Content::Text),
    field("group", Content::Text),
    field("givenName", Content::Text),
    field("middleName", Content::Text),
    field("familyName", Content::Text),
    field("picture", Content::Text),
    field("customAttributes", Content::Map),
    field("verifiedEmail", Content::Text),
    field("verifiedPhone", Content::Text),
];
const USER_MAPPING: &[Field] = &[
    field("loginId", Content::Text),
    field("username", Content::Text),
    field("name", Content::Text),
    field("email", Content::Text),
    field("phoneNumber", Content::Text),
    field("verifiedEmail", Content::Text),
    field("verifiedPhone", Content::Text),
    field("picture", Content::Text),
    field("givenName", Content::Text),
    field("middleName", Content::Text),
    field("familyName", Content::Text),
    field("group", Content::Text),
    field("customAttributes", Content::Map),
];
const SAML: &[Field] = &[
    field("idpUrl", Content::Text),
    field("entityId", Content::Text),
    field("idpCert", Content::Text),
    field("idpAdditionalCerts", Content::Texts),
    field("spACSUrl", Content::Text),
    field("spEntityId", Content::Text),
    field("attributeMapping", Content::Nested(MAPPING)),
    field("roleMappings", Content::Items),
    field("defaultSSORoles", Content::Set).keeps(),
    field("groupsPriority", Content::Texts),
    field("fgaMappings", Content::Map),
    field("configFGATenantIDResourcePrefix", Content::Text),
    field("configFGATenantIDResourceSuffix", Content::Text),
    field("disableSignRequest", Content::Flag),
    field("subjectNameIdFormat", Content::Text),
    field("spEncryptionKey", Content::Text).secret(),
    field("spSignKey", Content::Text).secret(),
];
const METADATA: &[Field] = &[
    field("idpMetadataUrl", Content::Text),
    field("entityId", Content::Text),
    field("spACSUrl", Content::Text),
    field("spEntityId", Content::Text),
    field("attributeMapping", Content::Nested(MAPPING)),
    field("roleMappings", Content::Items),
    field("defaultSSORoles", Content::Set).keeps(),
    field("groupsPriority", Content::Texts),
    field("fgaMappings", Content::Map),
    field("configFGATenantIDResourcePrefix", Content::Text),
    field("configFGATenantIDResourceSuffix", Content::Text),
    field("disableSignRequest", Content::Flag),
    field("subjectNameIdFormat", Content::Text),
    field("spEncryptionKey", Content::Text).secret(),
    field("spSignKey", Content::Text).secret(),
];
const OIDC: &[Field] = &[
    field("name", Content::Text),
    field("clientId", Content::Text),
    field("clientSecret", Content::Text).secret(),
    field("redirectUrl", Content::Text),
    field("authUrl", Content::Text),
    field("tokenUrl", Content::Text),
    field("userDataUrl", Content::Text),
    field("scope", Content::Set),
    field("JWKsUrl", Content::Text),
    field("userAttrMapping", Content::Nested(USER_MAPPING)),
    field("manageProviderTokens", Content::Flag),
    field("callbackDomain", Content::Text),
    field("prompt", Content::Set),
    field("grantType", Content::Text),
    field("issuer", Content::Text),
    field("groupsPriority", Content::Texts),
    field("fgaMappings", Content::Map),
    field("defaultSSORoles", Content::Set),
];
/// Taken beside those, and answered elsewhere or only where they were set.
const OIDC_MORE: &[Field] = &[field("usePkce", Content::Flag).keeps(), field("roleMappings", Content::Items)];

/// What the request and the answer call by different names.
const RENAMED: &[(&str, &str)] = &[
    ("idpUrl", "idpSSOUrl"),
    ("entityId", "idpEntityId"),
    ("idpCert", "idpCertificate"),
    ("idpAdditionalCerts", "idpAdditionalCertificates"),
];

fn part<'a>(row: &'a Entity, name: &str) -> std::borrow::Cow<'a, Document> {
    match row.fields.get(name) {
        Some(Value::Object(part)) => std::borrow::Cow::Borrowed(part),
        Some(_) | None => std::borrow::Cow::Owned(Document::new()),
    }
}

fn answer(look: &Look<'_>, tenant: &Tenant, row: &Entity) -> Value {
    let stored = part(row, "saml");
    let mut saml = Document::new();
    for (name, value) in entity::shown(&stored, SAML, look) {
        let renamed = RENAMED.iter().find(|(request, _)| *request == name).map_or(name.as_str(), |(_, answer)| answer);
        if renamed != "roleMappings" {
            saml.insert(renamed.to_owned(), value);
        }
    }
    let own = if row.id.is_empty() { tenant.id.clone() } else { format!("{}/{}", tenant.id, row.id) };
    let turn = row.fields.get("turn").and_then(Value::as_i64).unwrap_or_default();
    let defaults = [
        ("spEntityId", format!("https://api.example.invalid/{own}")),
        ("spACSUrl", format!("https://api.example.invalid/v1/auth/saml/acs?sso={own}&turn={turn}")),
    ];
    for (name, value) in defaults {
        if saml[name] == "" {
            saml.insert(name.to_owned(), json!(value));
        }
    }
    // Certificates follow from the keys; the keys never come back.
    let certificate = |name: &str, key: &str| {
        let key = stored.get(key).and_then(Value::as_str).unwrap_or_default();
        json!(format!("{name}{:x}", crate::simulator::hash(&format!("{own} {turn} {key}"))))
    };
    saml.insert("spCertificate".to_owned(), certificate("SPCERT", "spEncryptionKey"));
    saml.insert("spSignCertificate".to_owned(), certificate("SPSIGNCERT", "spSignKey"));
    saml.insert("groupsMapping".to_owned(), mappings(look, &tenant.id, &stored));
    for name in ["idpMetadataUrl", "redirectUrl", "providerID", "scimProviderID"] {
        saml.insert(name.to_owned(), stored.get(name).cloned().unwrap_or(json!("")));
    }
    saml.insert("lastSuccessTestTime".to_owned(), json!(0));
    fill(&mut saml, "attributeMapping", &[("name", "name"), ("email", "email"), ("phoneNumber", "phone")], &stored);

    let stored = part(row, "oidc");
    let mut oidc = entity::shown(&stored, OIDC, look);
    oidc.remove("roleMappings");
    oidc.insert("clientSecret".to_owned(), json!(""));
    oidc.insert("groupsMapping".to_owned(), mappings(look, &tenant.id, &stored));
    for name in ["providerID", "scimProviderID"] {
        oidc.insert(name.to_owned(), json!(""));
    }
    oidc.insert("lastSuccessTestTime".to_owned(), json!(0));
    if oidc["grantType"] == "" {
        oidc.insert("grantType".to_owned(), json!("authorization_code"));
    }
    let mapping = [
        ("loginId", "sub"),
        ("name", "name"),
        ("email", "email"),
        ("phoneNumber", "phone_number"),
        ("verifiedEmail", "email_verified"),
        ("verifiedPhone", "phone_number_verified"),
        ("picture", "picture"),
        ("givenName", "given_name"),
        ("middleName", "middle_name"),
        ("familyName", "family_name"),
    ];
    fill(&mut oidc, "userAttrMapping", &mapping, &stored);
    let only = row.fields.get("authenticationOnly").cloned().unwrap_or(json!(false));
    let tenant = serde_json::to_value(View { look, row: tenant }).unwrap_or_default();
    json!({ "tenant": tenant, "saml": saml, "oidc": oidc, "ssoId": row.id, "authenticationOnly": only })
}

/// The default mapping, where none was ever set.
fn fill(answer: &mut Document, name: &str, defaults: &[(&str, &str)], stored: &Document) {
    if !stored.contains_key(name)
        && let Some(mapping) = answer.get_mut(name)
    {
        for (field, value) in defaults {
            mapping[field] = json!(value);
        }
    }
}

/// `roleMappings` as an answer has them: with the ids of the roles.
fn mappings(look: &Look<'_>, tenant: &str, stored: &Document) -> Value {
    let table = look.world.table(roles::SHELF);
    let items = stored.get("roleMappings").and_then(Value::as_array).into_iter().flatten();
    let shown = items.map(|item| {
        let name = item["roleName"].as_str().unwrap_or_default();
        let role = table.by_name(tenant, name).or_else(|| table.by_name("", name)).and_then(|number| table.get(number));
        let groups = look.mixed(item["groups"].as_array().cloned().unwrap_or_default());
        json!({ "role": { "id": role.map(|role| role.id.clone()).unwrap_or_default(), "name": name }, "groups": groups })
    });
    shown.collect()
}

/// A tenant that never configured SSO answers an empty configuration.
fn load(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let tenant = tenants::late(call, call.parameter("tenantId")?)?;
    let id = call.optional("ssoId");
    let number = stored::in_tenant(call.world, PLACE, &tenant.id, id);
    let row = number.and_then(|number| call.loaded(PLACE, number)).map(|row| Entity::clone(&row));
    let row = match row {
        Some(row) => row,
        None if id.is_empty() => Entity { tenant: tenant.id.clone(), ..Entity::default() },
        None => return Err(Refusal::absent("SSO configuration", id)),
    };
    let answer = answer(&call.look(), &tenant, &row);
    Ok(view::bytes(&answer))
}

/// The default configuration, and every further one.
fn all(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let tenant = tenants::late(call, call.parameter("tenantId")?)?;
    let mut rows: Vec<Entity> =
        call.rows(PLACE, |row| row.tenant == tenant.id).iter().map(|row| Entity::clone(row)).collect();
    if !rows.iter().any(|row| row.id.is_empty()) {
        rows.insert(0, Entity { tenant: tenant.id.clone(), ..Entity::default() });
    }
    let look = call.look();
    let answers: Vec<_> = rows.iter().map(|row| answer(&look, &tenant, row)).collect();
    Ok(view::bytes(&Keyed("SSOSettings", answers)))
}

fn new(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let (_, tenant) = tenants::find(call.world, &call.body.required("tenantId")?)?;
    let id = call.body.text("ssoId")?.unwrap_or_default();
    let display = call.body.text("displayName")?.unwrap_or_default();
    call.ends()?;
    let id = if id.is_empty() { call.world.new_id("SSO") } else { id };
    if stored::in_tenant(call.world, PLACE, &tenant.id, &id).is_some() {
        return Err(Refusal::Exists(format!("SSO configuration {id} already exists")));
    }
    let turn = call.world.new_time();
    let mut row = Entity { id: id.clone(), name: id, tenant: tenant.id.clone(), ..Entity::default() };
    row.set("displayName", display);
    row.set("turn", turn);
    call.world.table_mut(PLACE).insert(row.clone());
    let answer = answer(&call.look(), &tenant, &row);
    Ok(view::bytes(&answer))
}

/// The configuration that a request is about; the default one comes into being with its first write.
fn meant(call: &mut Call<'_>, fields: &mut Fields) -> Result<(u64, Tenant, Option<u64>, Entity), Refusal> {
    let (number, tenant) = tenants::find(call.world, &fields.required("tenantId")?)?;
    let id = fields.text("ssoId")?.unwrap_or_default();
    let at = stored::in_tenant(call.world, PLACE, &tenant.id, &id);
    let row = at.and_then(|at| call.world.table(PLACE).copy(at));
    let row = match row {
        Some(row) => row,
        None if id.is_empty() => Entity { tenant: tenant.id.clone(), ..Entity::default() },
        None => return Err(Refusal::absent("SSO configuration", &id)),
    };
    Ok((number, tenant, at, row))
}

fn saml(call: &mut Call<'_>, table: &'static [Field]) -> Result<Vec<u8>, Refusal> {
    let mut fields = std::mem::take(&mut call.body);
    let (number, mut tenant, at, mut row) = meant(call, &mut fields)?;
    let mut settings = Fields::new(fields.object("settings")?.ok_or_else(|| Refusal::required("settings"))?);
    tenant.domains = fields.texts("domains")?.unwrap_or_default();
    let redirect = fields.text("redirectUrl")?.unwrap_or_default();
    fields.end(call.switches)?;
    let before = part(&row, "saml").into_owned();
    let mut stored = before.clone();
    only(&mut row, &mut settings)?;
    let replaces = settings.flag("replaceDefaultSSORoles")?.unwrap_or_default();
    // The two calls write the same settings: what only the other one knows goes.
    stored.retain(|name, _| {
        !matches!(name.as_str(), "idpUrl" | "idpCert" | "idpAdditionalCerts" | "idpMetadataUrl" | "redirectUrl")
    });
    entity::overwrite(&mut stored, table, &mut settings, call.switches)?;
    let given = stored.get("defaultSSORoles").and_then(Value::as_array).is_some_and(|roles| !roles.is_empty());
    if !given && !replaces {
        stored.remove("defaultSSORoles");
        stored.extend(before.get("defaultSSORoles").cloned().map(|roles| ("defaultSSORoles".to_owned(), roles)));
    }
    stored.insert("redirectUrl".to_owned(), json!(redirect));
    known_roles(call, &tenant.id, &stored)?;
    row.set("saml", stored);
    "saml".clone_into(&mut tenant.auth_type);
    store(call, number, tenant, at, row)
}

fn oidc(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut fields = std::mem::take(&mut call.body);
    let (number, mut tenant, at, mut row) = meant(call, &mut fields)?;
    let mut settings = Fields::new(fields.object("settings")?.ok_or_else(|| Refusal::required("settings"))?);
    tenant.domains = fields.texts("domains")?.unwrap_or_default();
    fields.end(call.switches)?;
    let mut stored = part(&row, "oidc").into_owned();
    only(&mut row, &mut settings)?;
    let table: Vec<Field> = OIDC.iter().chain(OIDC_MORE).copied().collect();
    entity::overwrite(&mut stored, &table, &mut settings, call.switches)?;
    if call.switches.strict_oidc {
        let filled = |name: &str| stored.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        if !stored.contains_key("userAttrMapping") {
            return Err(Refusal::required("userAttrMapping"));
        }
        if !filled("userDataUrl") && !filled("JWKsUrl") {
            return Err(Refusal::Invalid("one of userDataUrl and JWKsUrl is required".to_owned()));
        }
    }
    known_roles(call, &tenant.id, &stored)?;
    row.set("oidc", stored);
    "oidc".clone_into(&mut tenant.auth_type);
    store(call, number, tenant, at, row)
}

/// Written inside the settings, answered at the top; left out it stays.
fn only(row: &mut Entity, settings: &mut Fields) -> Result<(), Refusal> {
    if let Some(only) = settings.flag("authenticationOnly")? {
        row.set("authenticationOnly", only);
    }
    Ok(())
}

/// Mappings may name roles of the project and of the tenant.
fn known_roles(call: &Call<'_>, tenant: &str, stored: &Document) -> Result<(), Refusal> {
    let items = |name: &str| stored.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let mapped = items("roleMappings").into_iter().map(|item| item["roleName"].clone());
    let table = call.world.table(roles::SHELF);
    for name in mapped.chain(items("defaultSSORoles")) {
        let name = name.as_str().unwrap_or_default();
        if table.by_name(tenant, name).is_none() && table.by_name("", name).is_none() {
            return Err(Refusal::absent("role", name));
        }
    }
    Ok(())
}

fn store(call: &mut Call<'_>, number: u64, tenant: Tenant, at: Option<u64>, row: Entity) -> Result<Vec<u8>, Refusal> {
    tenants::check(call, Some(number), &tenant)?;
    call.world.table_mut(tenants::SHELF).replace(number, tenant);
    call.world.table_mut(PLACE).put_row(at, row);
    Ok(Call::nothing())
}

/// Touches nothing else.
fn redirect(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut fields = std::mem::take(&mut call.body);
    let (number, tenant, at, mut row) = meant(call, &mut fields)?;
    for (given, name) in [("samlRedirectUrl", "saml"), ("oauthRedirectUrl", "oidc")] {
        if let Some(url) = fields.text(given)? {
            let mut part = part(&row, name).into_owned();
            part.insert("redirectUrl".to_owned(), json!(url));
            row.set(name, part);
        }
    }
    fields.end(call.switches)?;
    store(call, number, tenant, at, row)
}

/// Keeps the stored settings.
fn auth_type(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let mut fields = std::mem::take(&mut call.body);
    let (number, mut tenant, at, row) = meant(call, &mut fields)?;
    tenant.auth_type = fields.required("authType")?;
    fields.end(call.switches)?;
    store(call, number, tenant, at, row)
}

/// A configuration that comes back later is another one: its URLs differ.
fn delete(call: &mut Call<'_>) -> Result<Vec<u8>, Refusal> {
    let (number, mut tenant) = tenants::find(call.world, call.parameter("tenantId")?)?;
    let id = call.optional("ssoId");
    match stored::in_tenant(call.world, PLACE, &tenant.id, id) {
        Some(at) if id.is_empty() => {
            let turn = call.world.new_time();
            let mut row = Entity { tenant: tenant.id.clone(), ..Entity::default() };
            row.set("turn", turn);
            call.world.table_mut(PLACE).replace(at, row);
        }
        Some(at) => call.world.table_mut(PLACE).remove(at),
        None if id.is_empty() => {}
        None => call.absent(Refusal::absent("SSO configuration", id))?,
    }
    if id.is_empty() {
        "none".clone_into(&mut tenant.auth_type);
        call.world.table_mut(tenants::SHELF).replace(number, tenant);
    }
    Ok(Call::nothing())
}
