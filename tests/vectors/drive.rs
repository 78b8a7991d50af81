//! How the daemon makes the call that a vector describes.

use crate::Vector;
use descope_gitops::descope::Call;
use descope_gitops::descope::Client;
use descope_gitops::descope::Document;
use descope_gitops::resource::Item;
use descope_gitops::resource::Key;
use descope_gitops::resource::MAIN;
use descope_gitops::resource::Write;
use descope_gitops::resource::kind;
use nonempty::NonEmpty;
use serde_json::Value;
use serde_json::json;

/// The id of what a vector leaves to the server.
pub const CHOSEN: &str = "chosen";

/// By the number of the API, counted from 1.
const ATTRIBUTE_TYPES: [&str; 7] = ["string", "number", "boolean", "singleselect", "multiselect", "date", "monthday"];

/// What is sent.
struct Sending {
    kind: &'static str,
    part: &'static str,
    id: Option<String>,
    changed: Vec<String>,
    writes: Vec<(Key, Write)>,
}

/// Makes the call that a vector describes, the way the daemon makes it.
pub async fn drive(client: &Client, vector: &Vector) {
    let (family, operation) = (&*vector.family, &*vector.operation);
    if (family, operation) == ("license", "get") {
        client.read(&Call::license()).await.unwrap();
        return;
    }
    if let Some(name) = listed(vector) {
        kind(name).unwrap().list(client).await.unwrap();
        return;
    }
    if drive_document(client, vector).await || read(client, vector).await {
        return;
    }
    let sending = sending(vector).unwrap_or_else(|| panic!("{} is neither driven nor never sent", vector.name));
    let kind = kind(sending.kind).unwrap();
    let items = sending.writes.iter().map(|(key, write)| {
        let id = sending.id.as_deref();
        Item { key, id, write, live: None, changed: &sending.changed }
    });
    let items = NonEmpty::from_vec(items.collect()).unwrap();
    assert!(items.len() <= kind.batch_size(sending.part, &items.head.write.with(|_| ())));
    kind.send(client, kind.spec().part(sending.part).unwrap(), &items).await.unwrap();
}

/// The kind that is observed by this call.
fn listed(vector: &Vector) -> Option<&'static str> {
    Some(match (&*vector.family, &*vector.operation) {
        ("tenant", "load_all") => "tenants",
        ("permission", "load_all") => "permissions",
        ("role", "load_all") => "roles",
        ("flow", "list") => "flows",
        ("theme", "export") => "theme",
        ("fga", "load_schema") => "fgaSchema",
        ("jwt_template", "list") => "jwtTemplates",
        ("sso_application", "load_all") => "ssoApplications",
        ("third_party_application", "load_all") => "inboundApps",
        ("outbound_application", "load_all") => "outboundApps",
        ("access_key", "search") => "accessKeys",
        ("password_settings", "get") if !vector.args.contains_key("tenant_id") => "passwordSettings",
        ("list", "load_all") => "lists",
        ("custom_attribute", "load_all") => "userAttributes",
        ("custom_attribute", "load_all_sso_app") => "ssoApplicationAttributes",
        ("project", "list") => "project",
        ("scope_claim_mapping", "get") => "scopeClaimMapping",
        _ => return None,
    })
}

/// Reads the part of a tenant that a vector asks for. False where it asks for none.
async fn read(client: &Client, vector: &Vector) -> bool {
    let part = match (&*vector.family, &*vector.operation) {
        ("tenant", "settings_get") => "settings",
        ("password_settings", "get") => "passwordSettings",
        ("sso_settings", "load_all") => "sso",
        _ => return false,
    };
    let id = vector.args.get("tenant_id").or(vector.args.get("id")).and_then(Value::as_str).unwrap();
    let tenants = kind("tenants").unwrap();
    let part = tenants.spec().part(part).unwrap();
    tenants.read(client, part, &Key::new("tenants", id), None).await.unwrap();
    true
}

fn sending(vector: &Vector) -> Option<Sending> {
    let (family, operation) = (&*vector.family, &*vector.operation);
    match family {
        "tenant" | "password_settings" | "sso_settings" => of_tenant(vector),
        "permission" | "role" => Some(by_name(vector)),
        "sso_application" | "outbound_application" => Some(by_id(vector)),
        "access_key" | "third_party_application" | "list" => Some(by_server_id(vector)),
        "custom_attribute" => Some(attribute(vector)),
        "project" | "scope_claim_mapping" => {
            let (name, part) = match operation {
                "update_tags" => ("project", "tags"),
                "update_name" => ("project", MAIN),
                _ => ("scopeClaimMapping", MAIN),
            };
            let write = Write::Overwrite { from: "".into(), body: fields(&vector.args) };
            Some(Sending::of(name, part, vec![(Key::only(name), write)]))
        }
        _ => None,
    }
}

impl Sending {
    fn of(kind: &'static str, part: &'static str, writes: Vec<(Key, Write)>) -> Self {
        Self { kind, part, id: None, changed: Vec::new(), writes }
    }
}

/// A tenant and its parts.
fn of_tenant(vector: &Vector) -> Option<Sending> {
    let mut args = fields(&vector.args);
    let id = args.get("tenantId").or(args.get("id")).and_then(Value::as_str).unwrap_or(CHOSEN).to_owned();
    let overwrite =
        |body: Value| Write::Overwrite { from: id.as_str().into(), body: fields(body.as_object().unwrap()) };
    let of = |part, write| Sending::of("tenants", part, vec![(Key::new("tenants", &id), write)]);
    let cascade = args.get("cascade") == Some(&Value::Bool(true));
    let settings = args.remove("settings");
    args.remove("tenantId");
    let sso = |item: Value, changed: &str| {
        let id = item.get("ssoId").and_then(Value::as_str).unwrap_or_default();
        let changed = vec![format!("sso[{id}].{changed}")];
        Sending { changed, ..of("sso", overwrite(json!({ "sso": [item] }))) }
    };
    Some(match (&*vector.family, &*vector.operation) {
        ("tenant", "create") => of(MAIN, Write::Create(args)),
        ("tenant", "patch") => of(MAIN, Write::Patch(args)),
        ("tenant", "update") => of(MAIN, overwrite(Value::Object(args))),
        ("tenant", "delete") => of(MAIN, Write::Delete { cascade }),
        ("tenant", "update_default_roles") => {
            of("defaultRoles", overwrite(json!({ "defaultRoles": args["roleNames"] })))
        }
        ("tenant", "settings_update") => {
            args.remove("id");
            of("settings", overwrite(json!({ "settings": settings.unwrap_or(Value::Object(args)) })))
        }
        ("password_settings", "configure") if id.is_empty() => {
            let write = overwrite(settings?);
            Sending::of("passwordSettings", MAIN, vec![(Key::only("passwordSettings"), write)])
        }
        ("sso_settings", "configure_saml" | "configure_saml_metadata") => {
            args.insert("saml".to_owned(), settings?);
            sso(Value::Object(args), "saml")
        }
        ("sso_settings", "configure_oidc") => {
            let mut oidc = settings?;
            let mapping = oidc.as_object_mut()?.remove("attributeMapping");
            oidc["userAttrMapping"] = mapping.unwrap_or_default();
            args.insert("oidc".to_owned(), oidc);
            sso(Value::Object(args), "oidc")
        }
        // Whatever it becomes, this comes first.
        ("sso_settings", "new") => sso(json!({ "ssoId": args["ssoId"], "oidc": { "clientId": "x" } }), "oidc"),
        ("sso_settings", "configure_auth_type") => sso(json!({ "authType": args["authType"] }), "authType"),
        _ => return None,
    })
}

/// What is known by its name.
fn by_name(vector: &Vector) -> Sending {
    let kind_name = if vector.family == "role" { "roles" } else { "permissions" };
    let args = &vector.args;
    let text = |name: &str| args[name].as_str().unwrap();
    let key_of = |item: &Document| kind(kind_name).unwrap().key(item).unwrap();
    let delete = Write::Delete { cascade: false };
    let writes = match &*vector.operation {
        "create" => vec![(key_of(&fields(args)), Write::Create(fields(args)))],
        "create_batch" => {
            let items = args[kind_name].as_array().unwrap();
            let items = items.iter().map(|item| fields(item.as_object().unwrap()));
            items.map(|item| (key_of(&item), Write::Create(item))).collect()
        }
        "update" => {
            let key = Key::new(kind_name, text("new_name"));
            vec![(key, Write::Overwrite { from: text("name").into(), body: fields(args) })]
        }
        "delete" => vec![(Key::new(kind_name, text("name")), delete)],
        "delete_batch" => {
            let names = args.get("names").or(args.get("roles")).unwrap().as_array().unwrap();
            names.iter().map(|name| (Key::new(kind_name, name.as_str().unwrap()), delete.clone())).collect()
        }
        _ => panic!("{} is neither driven nor listed as never sent", vector.name),
    };
    Sending::of(kind_name, MAIN, writes)
}

/// What is known by an id that its declaration chooses.
fn by_id(vector: &Vector) -> Sending {
    let kind_name = if vector.family == "sso_application" { "ssoApplications" } else { "outboundApps" };
    let mut body = fields(&vector.args);
    let id = body.get("id").and_then(Value::as_str).unwrap_or(CHOSEN).to_owned();
    let (verb, protocol) = vector.operation.split_once('_').unwrap_or((&vector.operation, ""));
    if !protocol.is_empty() {
        body.insert("type".to_owned(), protocol.into());
        // It is on unless the YAML says otherwise, and an overwriting call starts from what is there.
        body.entry("enabled").or_insert(Value::Bool(true));
    }
    let write = match verb {
        "create" => Write::Create(body),
        "update" => Write::Overwrite { from: id.as_str().into(), body },
        "delete" => Write::Delete { cascade: false },
        _ => panic!("{} is neither driven nor listed as never sent", vector.name),
    };
    Sending::of(kind_name, MAIN, vec![(Key::new(kind_name, &id), write)])
}

/// What is known by an id of Descope's own.
fn by_server_id(vector: &Vector) -> Sending {
    let kind_name = match &*vector.family {
        "access_key" => "accessKeys",
        "list" => "lists",
        _ => "inboundApps",
    };
    let mut body = fields(&vector.args);
    if kind_name == "accessKeys" {
        for (from, to) in [("roles", "roleNames"), ("tenants", "keyTenants")] {
            let value = body.remove(from);
            body.extend(value.map(|value| (to.to_owned(), value)));
        }
        for tenant in body.get_mut("keyTenants").and_then(Value::as_array_mut).into_iter().flatten() {
            let tenant = tenant.as_object_mut().unwrap();
            let roles = tenant.remove("roles");
            tenant.extend(roles.map(|roles| ("roleNames".to_owned(), roles)));
        }
    }
    let id = body.remove("id").and_then(|id| id.as_str().map(str::to_owned));
    let name = body.get("name").and_then(Value::as_str).unwrap_or("x").to_owned();
    let overwrite = |body| Write::Overwrite { from: name.as_str().into(), body };
    let status = |status: &str| overwrite(Document::from_iter([("status".to_owned(), status.into())]));
    let (part, write) = match &*vector.operation {
        "create" => (MAIN, Write::Create(body)),
        "update" if kind_name == "lists" => (MAIN, overwrite(body)),
        "update" => (MAIN, Write::Patch(body)),
        "activate" => ("status", status("active")),
        "deactivate" => ("status", status("inactive")),
        "delete" => (MAIN, Write::Delete { cascade: false }),
        _ => panic!("{} is neither driven nor listed as never sent", vector.name),
    };
    Sending { id, ..Sending::of(kind_name, part, vec![(Key::new(kind_name, &name), write)]) }
}

/// A definition of a custom attribute, whose type the YAML writes as a word.
fn attribute(vector: &Vector) -> Sending {
    let args = &vector.args;
    let of_users = !vector.operation.ends_with("_sso_app");
    let kind_name = if of_users { "userAttributes" } else { "ssoApplicationAttributes" };
    let (name, write) = match args.get("attributes").and_then(|attributes| attributes[0].as_object().cloned()) {
        Some(mut definition) => {
            let number = usize::try_from(definition["type"].as_u64().unwrap()).unwrap();
            definition.insert("type".to_owned(), ATTRIBUTE_TYPES[number - 1].into());
            (definition["name"].clone(), Write::Create(definition))
        }
        None => (args["name"].clone(), Write::Delete { cascade: false }),
    };
    Sending::of(kind_name, MAIN, vec![(Key::new(kind_name, name.as_str().unwrap()), write)])
}

/// The same of kinds that are documents. False for any other.
async fn drive_document(client: &Client, vector: &Vector) -> bool {
    let args = &vector.args;
    let text = |name: &str| args.get(name).and_then(Value::as_str);
    let template = args.get("template").and_then(Value::as_object);
    let (name, key, id) = match &*vector.family {
        "flow" => {
            let ids = args.get("flow_ids").and_then(|ids| ids[0].as_str());
            ("flows", text("flow_id").or(ids).map(|id| Key::new("flows", id)), None)
        }
        "theme" => ("theme", Some(Key::only("theme")), None),
        "fga" => ("fgaSchema", Some(Key::only("fgaSchema")), None),
        "jwt_template" => {
            let id = text("id").or_else(|| template?.get("id")?.as_str());
            let name = template.and_then(|template| template["name"].as_str()).unwrap_or("x");
            ("jwtTemplates", Some(Key::new("jwtTemplates", name)), id)
        }
        _ => return false,
    };
    let kind = kind(name).unwrap();
    let main = kind.spec().main();
    let content = args.get("flow").or(args.get("schema")).cloned();
    let body = content.map(|content| Document::from_iter([("file".to_owned(), content)]));
    let body = body.or_else(|| template.cloned()).unwrap_or_default();
    let write = match &*vector.operation {
        // The answer of a recorder has no flow in it.
        "export" => {
            kind.read(client, main, &key.unwrap(), None).await.unwrap_err();
            return true;
        }
        "dryrun" => {
            kind.preview(client, &Document::new(), &body).await.unwrap();
            return true;
        }
        "create" => Write::Create(body),
        "import" | "save_schema" | "update" => Write::Overwrite { from: key.as_ref().unwrap().name.clone(), body },
        "delete" => Write::Delete { cascade: false },
        _ => panic!("{} is neither driven nor listed as never sent", vector.name),
    };
    let item = Item { key: &key.unwrap(), id, write: &write, live: None, changed: &[] };
    kind.send(client, main, &NonEmpty::new(item)).await.unwrap();
    true
}

/// The neutral names of a vector's arguments as the API's own.
fn fields(args: &Document) -> Document {
    args.iter().map(|(name, value)| (wire(name), renamed(value))).collect()
}

fn renamed(value: &Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(fields(object)),
        Value::Array(items) => items.iter().map(renamed).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn wire(name: &str) -> String {
    let other = match name {
        "enforce_sso" => "enforceSSO",
        "enforce_sso_exclusions" => "enforceSSOExclusions",
        "session_settings_enabled" => "enabled",
        "list_type" => "type",
        "idp_entity_id" => "entityId",
        "default_sso_roles" => "defaultSSORoles",
        "jwks_url" => "JWKsUrl",
        snake => {
            let mut words = snake.split('_');
            let first = words.next().unwrap_or_default().to_owned();
            return words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..]);
        }
    };
    other.to_owned()
}
