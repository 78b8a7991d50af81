//! `config/sample`, field by field: what somebody else makes of one field is turned back, alone, by one call.
//!
//! Somebody else is the same tool with another opinion: it applies the sample with one value changed, and knows nothing of
//! the state of the first.

use crate::harness::Setup;
use crate::harness::World;
use descope_gitops::resource;
use descope_gitops::resource::Field;
use descope_gitops::resource::Key;
use descope_gitops::resource::Kind;
use descope_gitops::resource::Shape;
use descope_gitops::resource::Spec;
use descope_gitops::resource::opaque::Source;
use descope_gitops::resource::spec::Back;
use descope_gitops::resource::spec::How;
use descope_gitops::resource::spec::Need;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Output;

/// Values that nobody can change alone, by how what stands there ends.
const NOT_ALONE: &[(&str, &str)] = &[
    (": settings.sessionTokenExpirationUnit", "the number beside it would mean less than three minutes"),
    (": settings.refreshTokenExpirationUnit", "the session's would be longer"),
    ("lists/disposable-domains: type", "its items are no addresses"),
    ("lists/limits: type", "its items are no texts"),
    ("ssoApplications/wiki: useMetadataInfo", "it wants an address"),
    ("userAttributes/plan: options[0].label", "no call carries labels"),
    ("tenants/acme: sso[0].domains", "domains are the tenant's: each configuration names the same"),
    ("tenants/acme: sso[1].domains", "the same"),
    ("tenants/acme: sso[0].authType", "what is off is off for the tenant: each configuration says the same"),
    ("tenants/acme: sso[1].authType", "the same"),
    ("userAttributes/plan: options[1].label", "no call carries labels"),
];

/// Values that no answer shows, so that nobody can see what others make of them.
const UNSEEN: &[&str] = &[
    ": passwordSettings.anyLetter",
    ": passwordSettings.disallowEmailMatch",
    ": passwordSettings.disallowedCharacters",
];

/// What a call that patches takes each time beside the id.
const TAKEN: &[(&str, &str)] = &[("accessKeys", "name")];

/// The sample with one value changed.
struct Variant {
    /// `roles/Reader`.
    target: String,
    /// `roles/Reader: description`.
    what: String,
    /// Which file, with what in it.
    file: PathBuf,
    text: String,
}

/// Other values of the same shape, each with its path below this one.
fn others(shape: Shape, path: &str, value: &Value) -> Vec<(String, Value)> {
    let whole = |value: Value| vec![(path.to_owned(), value)];
    let inside = |values: Vec<(String, Value)>, set: &dyn Fn(Value) -> Value| {
        values.into_iter().map(|(path, value)| (path, set(value))).collect::<Vec<_>>()
    };
    match (shape, value) {
        (Shape::Secret, _) | (_, Value::Null) => Vec::new(),
        (Shape::OneOf(words), Value::String(word)) => {
            let other = words.iter().find(|other| *other != word && !other.is_empty());
            other.map(|other| whole(json!(other))).unwrap_or_default()
        }
        (Shape::Integer(_, most), Value::Number(number)) => {
            let number = number.as_i64().unwrap();
            whole(json!(if number < most { number + 1 } else { number - 1 }))
        }
        (Shape::Set | Shape::References(_), Value::Array(items)) => whole(match items.len() {
            0 => return Vec::new(),
            1 if matches!(shape, Shape::Set) => other_than(&json!(items)),
            all => json!(items[..all - 1]),
        }),
        (Shape::Reference(_), Value::String(_)) => whole(Value::Null),
        (Shape::Attributes, Value::Object(entries)) => entries
            .iter()
            .flat_map(|(name, one)| {
                let set = |one| with(entries, name, one);
                inside(vec![(format!("{path}.{name}"), other_than(one))], &set)
            })
            .collect(),
        (Shape::Map(shape), Value::Object(entries)) => entries
            .iter()
            .flat_map(|(name, one)| {
                let set = |one| with(entries, name, one);
                inside(others(*shape, &format!("{path}.{name}"), one), &set)
            })
            .collect(),
        (Shape::Object(fields), Value::Object(entries)) => of_fields(fields, path, entries, &[]),
        (Shape::Items { key, fields, .. }, Value::Array(items)) => {
            let mut all = Vec::new();
            for (at, item) in items.iter().enumerate() {
                let path = format!("{path}[{at}]");
                for (path, other) in of_fields(fields, &path, item.as_object().unwrap(), key) {
                    let mut items = items.clone();
                    items[at] = other;
                    all.push((path, json!(items)));
                }
            }
            all
        }
        (Shape::List(shape), Value::Array(items)) => {
            let first = items.first().into_iter().flat_map(|one| others(*shape, &format!("{path}[0]"), one));
            first
                .map(|(path, one)| {
                    let mut items = items.clone();
                    items[0] = one;
                    (path, json!(items))
                })
                .collect()
        }
        (_, value) => whole(other_than(value)),
    }
}

fn with(entries: &serde_json::Map<String, Value>, name: &str, value: Value) -> Value {
    let mut entries = entries.clone();
    entries.insert(name.to_owned(), value);
    Value::Object(entries)
}

/// Of every field of an object that stands there, but for its identity.
fn of_fields(
    fields: &'static [Field],
    path: &str,
    entries: &serde_json::Map<String, Value>,
    identity: &[&str],
) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for field in fields.iter().filter(|field| can_change(field) && !identity.contains(&field.name)) {
        let Some(value) = entries.get(field.name) else { continue };
        for (path, other) in others(field.shape, &format!("{path}.{}", field.name), value) {
            all.push((path, with(entries, field.name, other)));
        }
    }
    all
}

/// A value of the same type that is not the same.
fn other_than(value: &Value) -> Value {
    match value {
        Value::String(text) => json!(format!("{text}x")),
        Value::Bool(flag) => json!(!flag),
        Value::Number(number) => json!(number.as_i64().unwrap() + 1),
        Value::Array(items) => match &items[..] {
            [] => json!(["x"]),
            [one] => json!([other_than(one)]),
            [all @ .., _] => json!(all),
        },
        Value::Object(entries) => match entries.iter().next() {
            Some((name, one)) => with(entries, name, other_than(one)),
            None => json!({ "x": "y" }),
        },
        Value::Null => json!("x"),
    }
}

fn can_change(field: &Field) -> bool {
    field.is_declarable() && field.need != Need::AtCreation && field.back != Back::Never
}

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/sample")
}

/// Every file of the sample, by path below it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// With the one secret that the sample cannot have: without it no call changes what lies beside it.
fn copy_of(sample: &Path, to: &Path) {
    for file in files(sample) {
        let target = to.join(file.strip_prefix(sample).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        let text = fs::read_to_string(file).unwrap();
        let id = "          clientId: acme-labs\n";
        fs::write(target, text.replace(id, &format!("{id}          clientSecret: {{ env: LABS_SECRET }}\n"))).unwrap();
    }
}

/// What the documents of this file say.
fn documents(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap()).collect()
}

/// The identity as `--target` takes it.
fn target(spec: &Spec, item: &Value) -> String {
    let Some(field) = spec.identity.field else { return Key::new(spec.name, spec.name).to_string() };
    let name = item[field].as_str().unwrap();
    let tenant = spec.identity.tenant.and_then(|tenant| item[tenant].as_str());
    match tenant {
        Some(tenant) => Key::in_tenant(spec.name, tenant, name).to_string(),
        None => Key::new(spec.name, name).to_string(),
    }
}

/// The sample with each value of the kind changed, one at a time.
fn variants(kind: &'static dyn Kind, root: &Path) -> Vec<Variant> {
    let spec = kind.spec();
    let mut all = Vec::new();
    for file in files(root).into_iter().filter(|file| file.extension().is_some_and(|end| end == "yaml")) {
        let whole = documents(&file);
        for (n, document) in whole.iter().enumerate() {
            let Some(declared) = document.get(spec.name) else { continue };
            let bare = spec.identity.bare.map(|bare| json!([{ bare: declared }]));
            let items = bare.unwrap_or_else(|| if declared.is_array() { declared.clone() } else { json!([declared]) });
            for (at, item) in items.as_array().unwrap().iter().enumerate() {
                let target = target(spec, item);
                for (_, field) in spec.fields().filter(|(_, field)| can_change(field)) {
                    let Some(value) = item.get(field.name) else { continue };
                    let is_identity = spec.is_identity(field.name) || spec.is_server_id(field.name);
                    if is_identity {
                        continue;
                    }
                    if let Shape::Opaque(opaque) = field.shape
                        && opaque.source != Source::Inline
                    {
                        all.push(of_document(root, &file, &target, field.name, value.as_str().unwrap(), opaque.source));
                        continue;
                    }
                    for (path, other) in others(field.shape, field.name, value) {
                        let mut changed = item.clone();
                        changed[field.name] = other;
                        let mut items = items.clone();
                        items[at] = changed;
                        let value = match spec.identity.bare {
                            Some(bare) => items[0][bare].clone(),
                            None if declared.is_array() => items,
                            None => items[0].clone(),
                        };
                        let mut whole = whole.clone();
                        whole[n][spec.name] = value;
                        let text = whole.iter().map(|document| format!("---\n{document}\n")).collect();
                        let file = file.strip_prefix(root).unwrap().to_owned();
                        all.push(Variant { target: target.clone(), what: format!("{target}: {path}"), file, text });
                    }
                }
            }
        }
    }
    all
}

/// Another text in the file that a field names.
fn of_document(root: &Path, yaml: &Path, target: &str, field: &str, name: &str, source: Source) -> Variant {
    let path = yaml.parent().unwrap().join(name);
    let text = fs::read_to_string(&path).unwrap();
    let text = match source {
        Source::Text => text + "\ntype visitor\n",
        Source::Json | Source::Inline => {
            let mut document: Value = serde_json::from_str(&text).unwrap();
            assert!(change_a_text(&mut document), "{name} has a text to change");
            document.to_string()
        }
    };
    let file = path.strip_prefix(root).unwrap().to_owned();
    Variant { target: target.to_owned(), what: format!("{target}: {field}"), file, text }
}

/// The first text deep inside that names nothing.
fn change_a_text(value: &mut Value) -> bool {
    match value {
        Value::String(text) => {
            text.push('x');
            true
        }
        Value::Object(entries) => {
            let names = ["references", "componentsVersion", "metadata"];
            entries
                .iter_mut()
                .filter(|(name, _)| !names.contains(&name.as_str()))
                .any(|(_, value)| change_a_text(value))
        }
        Value::Array(items) => items.iter_mut().any(change_a_text),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// What somebody would call the same: the server's counts apart, sets in one order, what is unset left out. A call that
/// overwrites carries what the server gave of its own, so that it is stored from then on.
fn meaning(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let own = ["version", "writes", "modifiedTime", "spCertificate", "spSignCertificate"];
            let kept = fields.iter().filter(|(name, _)| !own.contains(&name.as_str()));
            let said = kept.map(|(name, value)| (name.clone(), meaning(value)));
            let is_given = |name: &str, value: &Value| match name {
                "attributeMapping" => *value == default_mapping(),
                "grantType" => value == "authorization_code",
                "spACSUrl" | "spEntityId" => value.as_str().is_some_and(|url| url.starts_with(SERVER)),
                _ => false,
            };
            said.filter(|(name, value)| !is_nothing(value) && !is_given(name, value)).collect()
        }
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(meaning).collect();
            items.sort_by_key(Value::to_string);
            json!(items)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// How the addresses begin that the server gives.
const SERVER: &str = "https://api.example.invalid/";

/// What the server answers where nobody wrote a mapping.
fn default_mapping() -> Value {
    json!({ "email": "email", "name": "name", "phoneNumber": "phone" })
}

fn is_nothing(value: &Value) -> bool {
    [json!(null), json!(""), json!([]), json!({}), json!(false), json!(0)].contains(value)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn apply(world: &World, source: &Path, target: &str, state: &str) -> (i32, String) {
    let (source, state) = (source.display().to_string(), world.path(state).display().to_string());
    let mut args = vec!["apply", "--auto-approve", "--source", &source, "--state", &state];
    if !target.is_empty() {
        args.extend(["--target", target]);
    }
    let output = world.run(&args).await;
    (output.status.code().unwrap(), said(&output))
}

/// Of the variants of the kind each `of`th, from this one on.
async fn walk(kind: &'static dyn Kind, share: usize, of: usize) {
    let mut world = World::with(Setup::default()).await;
    let secrets = world.path("secrets");
    fs::create_dir(&secrets).unwrap();
    let project = [
        "firstContact: apply".to_owned(),
        "policy: sync".to_owned(),
        format!("secrets: {{ env: [LABS_SECRET], dir: {} }}", secrets.display()),
        "guards: { weakening: off, lockout: off, maxDeletes: 100, maxDeletePercent: off }".to_owned(),
    ];
    world.reconfigure(|setup| setup.project = project.to_vec());
    world.environment.push(("LABS_SECRET".to_owned(), "of labs".to_owned()));
    let (root, other) = (world.path("first"), world.path("other"));
    copy_of(&sample(), &root);
    copy_of(&sample(), &other);
    let (code, said) = apply(&world, &root, "", "state").await;
    assert_eq!(code, 0, "{said}");
    let made = world.live().await;
    let wanted = meaning(&made);
    let mut problems = Vec::new();
    let variants = variants(kind, &root);
    assert!(!variants.is_empty(), "nothing of {} can be changed", kind.name());
    let mut walked = BTreeSet::new();

    for variant in variants.into_iter().skip(share).step_by(of) {
        let before = fs::read(root.join(&variant.file)).unwrap();
        fs::write(other.join(&variant.file), &variant.text).unwrap();
        let (code, said) = apply(&world, &other, &variant.target, "nobody").await;
        fs::write(other.join(&variant.file), before).unwrap();
        fs::remove_dir_all(world.path("nobody")).ok();
        let drifted = meaning(&world.live().await);
        let is_alone = !NOT_ALONE.iter().any(|(end, _)| variant.what.ends_with(end));
        if is_alone != (code == 0 && drifted != wanted) {
            problems.push(format!("{}: changed: {code}, {}: {said}", variant.what, drifted != wanted));
        }
        if drifted == wanted {
            continue;
        }
        let writes = world.writes().await.len();

        let (code, said) = apply(&world, &root, &variant.target, "state").await;

        let sent = world.writes().await.split_off(writes);
        let now = meaning(&world.live().await);
        let is_seen = !(kind.name() == "tenants" && UNSEEN.iter().any(|end| variant.what.ends_with(end)));
        let (calls, expected) = if is_seen { (1, &wanted) } else { (0, &drifted) };
        if code != 0 || sent.len() != calls || now != *expected {
            let lines: Vec<&String> = sent.iter().map(|(line, _)| line).collect();
            let off = difference("", expected, &now);
            problems.push(format!("{}: {code}, {lines:?}, {off}: {said}", variant.what));
        }
        problems.extend(carried_along(kind.spec(), &variant.what, &sent));
        if now != wanted {
            world.set_live(made.clone()).await;
        }
        walked.insert(variant.what);
    }
    assert!(problems.is_empty(), "{} of {}:\n{}", problems.len(), walked.len(), problems.join("\n"));
}

/// A call that patches writes whatever it is given: what it carries beside the field that differs.
fn carried_along(spec: &Spec, what: &str, sent: &[(String, Value)]) -> Option<String> {
    let path = what.rsplit_once(": ").unwrap().1;
    let field = path.split(['.', '[']).next().unwrap();
    let is_patch = spec.field(field).unwrap().0.how == How::Patch;
    let may_be = |key: &str| key == "id" || key == field || TAKEN.contains(&(spec.name, key));
    let bodies = sent.iter().filter(|_| is_patch).filter_map(|(_, body)| body.as_object());
    let more: Vec<&String> = bodies.flat_map(|body| body.keys()).filter(|key| !may_be(key)).collect();
    (!more.is_empty()).then(|| format!("{what}: {more:?} went along"))
}

/// The first place where they differ.
fn difference(path: &str, wanted: &Value, now: &Value) -> String {
    match (wanted, now) {
        (wanted, now) if wanted == now => String::new(),
        (Value::Object(a), Value::Object(b)) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            let mut differences =
                names.iter().map(|name| difference(&format!("{path}.{name}"), &wanted[*name], &now[*name]));
            differences.find(|difference| !difference.is_empty()).unwrap_or_default()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut differences = a.iter().zip(b).map(|(a, b)| difference(&format!("{path}[]"), a, b));
            differences.find(|difference| !difference.is_empty()).unwrap_or_default()
        }
        (wanted, now) => format!("{path} is {now} in place of {wanted}"),
    }
}

/// One test a kind, so that they fail apart; more where there is much to walk.
macro_rules! each_kind {
    ($($test:ident: $kind:literal $([$share:literal of $of:literal])?),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $test() {
                let (share, of) = [$(($share, $of),)? (1, 1)][0];
                walk(resource::kind($kind).unwrap(), share - 1, of).await;
            }
        )+

        #[test]
        fn every_kind_is_walked() {
            let walked = BTreeSet::from([$($kind),+]);
            let all: BTreeSet<&str> = resource::ALL.iter().map(|kind| kind.name()).collect();
            assert_eq!(walked, all);
        }
    };
}

each_kind!(
    permissions: "permissions",
    roles: "roles",
    tenants_1: "tenants" [1 of 8],
    tenants_2: "tenants" [2 of 8],
    tenants_3: "tenants" [3 of 8],
    tenants_4: "tenants" [4 of 8],
    tenants_5: "tenants" [5 of 8],
    tenants_6: "tenants" [6 of 8],
    tenants_7: "tenants" [7 of 8],
    tenants_8: "tenants" [8 of 8],
    flows: "flows",
    theme: "theme",
    fga_schema: "fgaSchema",
    sso_applications_1: "ssoApplications" [1 of 3],
    sso_applications_2: "ssoApplications" [2 of 3],
    sso_applications_3: "ssoApplications" [3 of 3],
    inbound_apps: "inboundApps",
    outbound_apps: "outboundApps",
    access_keys: "accessKeys",
    password_settings: "passwordSettings",
    jwt_templates: "jwtTemplates",
    lists: "lists",
    user_attributes: "userAttributes",
    application_attributes: "ssoApplicationAttributes",
    tenant_attributes: "tenantAttributes",
    key_attributes: "accessKeyAttributes",
    scope_claim_mapping: "scopeClaimMapping",
    project: "project",
);
