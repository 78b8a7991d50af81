//! What `schema` prints, in the eyes of a checker that nobody here wrote: it takes every sample, and refuses whatever
//! `validate` refuses for its shape.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands")]
#![allow(clippy::wildcard_enum_match_arm, reason = "no other shape has fields inside")]

use descope_gitops::cli::schema;
use descope_gitops::cli::schema::Of;
use descope_gitops::config::Config;
use descope_gitops::config::Overrides;
use descope_gitops::desired::check::Checker;
use descope_gitops::desired::secrets::Fence;
use descope_gitops::resource;
use descope_gitops::resource::Document;
use descope_gitops::resource::Field;
use descope_gitops::resource::Shape;
use descope_gitops::resource::Spec;
use descope_gitops::resource::opaque::Source;
use descope_gitops::resource::spec::Need;
use globset::Glob;
use globset::GlobSetBuilder;
use jsonschema::Validator;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::path::Path;

fn validator(of: Of) -> Validator {
    jsonschema::draft202012::new(&schema::document(of)).unwrap()
}

/// Every document of the text.
fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap()).collect()
}

fn says(validator: &Validator, document: &Value) -> Vec<String> {
    validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// What `validate` says of one file.
fn errors(text: &str) -> Vec<String> {
    let fence = Fence { env: GlobSetBuilder::new().add(Glob::new("*").unwrap()).build().unwrap(), ..Fence::default() };
    let report = Checker { kinds: resource::ALL, fence: &fence }.check(&"a.yaml".into(), text);
    report.errors.iter().map(ToString::to_string).collect()
}

fn files(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn both_are_schemas_of_the_newest_draft() {
    for of in [Of::Desired, Of::Config] {
        let document = schema::document(of);
        assert_eq!(document["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert!(jsonschema::draft202012::meta::is_valid(&document));
    }
}

#[test]
fn every_file_of_the_sample_fits() {
    let validator = validator(Of::Desired);
    let mut all = Vec::new();
    files(Path::new("config/sample"), &mut all);

    assert!(all.len() > 5, "{all:?}");
    for (path, text) in all {
        for document in documents(&text) {
            assert_eq!(says(&validator, &document), Vec::<String>::new(), "{path}");
        }
    }
}

#[test]
fn every_settings_file_that_is_shipped_fits() {
    let validator = validator(Of::Config);
    for path in
        ["config/descope-gitops.yaml", "deploy/systemd/descope-gitops.yaml", "deploy/kubernetes/descope-gitops.yaml"]
    {
        let text = fs::read_to_string(path).unwrap();

        assert_eq!(says(&validator, &documents(&text)[0]), Vec::<String>::new(), "{path}");
    }
}

/// By hand: what no walk over the tables would think of.
#[test]
fn what_validate_says_of_the_shape_of_a_file_says_the_schema_too() {
    let validator = validator(Of::Desired);
    for text in [
        "version: 2",
        "version: 1.5",
        "- roles",
        "roles: {}",
        "roles:",
        "roles: [a]",
        "roles: [{}]",
        "roles: [{ name: '' }]",
        "roles: [{ name: 7 }]",
        "roles: [{ name: ~ }]",
        "roles: [{ name: a, tenantId: 7 }]",
        "rolls: []",
        "roles: [{ name: a, protected: 'yes' }]",
        "roles: [{ name: a, protected: ~ }]",
        "roles: [{ name: a, renamedFrom: '' }]",
        "roles: [{ name: a, cascadeDelete: true }]",
        "roles: [{ name: a, description: { env: X } }]",
        "roles: [{ name: a, id: R1 }]",
        "tenants: [{ id: a, name: A, renamedFrom: b }]",
        "tenants: [{ id: a, name: A, customAttributes: { b: { env: X } } }]",
        "tenants: [{ id: a, name: A, customAttributes: { '': x } }]",
        "tenants: [{ id: a }]",
        "tenants: [{ id: a, name: ~ }]",
        "scopeClaimMapping:",
        "scopeClaimMapping: {}",
        "passwordSettings:",
        "passwordSettings: []",
        "passwordSettings: { minLength: 1.5 }",
        "lists: [{ name: a, type: texts, data: {} }]",
        "lists: [{ name: a, type: json, data: [] }]",
        "ssoApplications: [{ id: a, name: A, type: oidc, realm: r }]",
        "ssoApplications: [{ id: a, name: A, type: wsfed, forcePkce: true }]",
        "ssoApplications: [{ id: a, name: A, type: oidc, clientSecret: s }]",
        "ssoApplications: [{ id: a, name: A, type: oidc, clientSecret: { env: A, file: b } }]",
        "userAttributes: [{ name: a, type: string, options: [{ value: a, label: a }] }]",
    ] {
        assert_ne!(errors(text), Vec::<String>::new(), "{text}");
        assert_ne!(says(&validator, &documents(text)[0]), Vec::<String>::new(), "{text}");
    }
    for text in [
        "version: 1",
        "# nothing",
        "x-anchors: [&a x]\nroles: [{ name: *a }]",
        "roles: []",
        "roles: [{ name: a, tenantId: '', description: ~, permissionNames: ~, protected: true, renamedFrom: b }]",
        "tenants: [{ id: a, name: A, customAttributes: { b: ~, c: [x], d: 1.5 }, cascadeDelete: false }]",
        "scopeClaimMapping: []",
        "lists: [{ name: a, type: json, data: {} }, { name: b, type: ips, data: [10.0.0.0/8] }]",
        "ssoApplications: [{ id: a, name: A, type: oidc, clientSecret: { env: A }, forcePkce: ~ }]",
    ] {
        assert_eq!(errors(text), Vec::<String>::new(), "{text}");
        assert_eq!(says(&validator, &documents(text)[0]), Vec::<String>::new(), "{text}");
    }
}

/// A value that fits.
fn plausible(shape: Shape, word: usize) -> Value {
    match shape {
        Shape::Opaque(opaque) if opaque.source == Source::Inline => json!({ "a": "x" }),
        Shape::Text | Shape::Name | Shape::Reference(_) | Shape::Opaque(_) => json!("x"),
        Shape::Flag => json!(true),
        Shape::Integer(least, _) => json!(least),
        Shape::OneOf(words) => json!(words[word % words.len()]),
        Shape::Set | Shape::References(_) => json!(["x"]),
        Shape::List(shape) => json!([plausible(*shape, word)]),
        Shape::Attributes => json!({ "a": "x" }),
        Shape::Map(shape) => json!({ "a": plausible(*shape, word) }),
        Shape::Object(fields) => least(fields, word),
        Shape::Items { key, fields, .. } => {
            let mut item = least(fields, word);
            for field in fields.iter().filter(|field| key.contains(&field.name)) {
                item[field.name] = plausible(field.shape, word);
            }
            json!([item])
        }
        Shape::Json => [json!({}), json!([])][word % 2].clone(),
        Shape::Secret => json!({ "env": "X" }),
    }
}

/// What has to be there.
fn least(fields: &[Field], word: usize) -> Value {
    let required = fields.iter().filter(|field| field.need == Need::Required && field.is_declarable());
    required.map(|field| (field.name.to_owned(), plausible(field.shape, word))).collect::<Document>().into()
}

/// A resource for each word that its fields take, as far as the kind's own check lets it pass.
fn resources(spec: &Spec) -> Vec<Value> {
    let identity = spec.identity.field.map(|field| (field.to_owned(), json!("x")));
    let of_word = |word| {
        let fields: Vec<Field> = spec.fields().map(|(_, field)| *field).collect();
        let Value::Object(mut least) = least(&fields, word) else { panic!("an object") };
        least.extend(identity.clone());
        // A kind may want more than its table says; then it does so whatever the schema says.
        let is_taken = (spec.check)(&least).is_empty();
        is_taken.then_some(Value::Object(least))
    };
    let mut all: Vec<Value> = Vec::new();
    for resource in (0..20).filter_map(of_word) {
        if !all.contains(&resource) {
            all.push(resource);
        }
    }
    all
}

/// Every value, well or badly shaped, that a field can be given, and the same for what lies inside of it.
fn values(shape: Shape) -> Vec<Value> {
    let mut all = vec![
        json!(null),
        json!(true),
        json!(3),
        json!(-1),
        json!(1.5),
        json!("x"),
        json!(""),
        json!([]),
        json!(["x"]),
        json!([""]),
        json!([7]),
        json!([null]),
        json!([{}]),
        json!([{ "zz": 1 }]),
        json!({}),
        json!({ "zz": 1 }),
        json!({ "a": "b" }),
        json!({ "a": { "zz": 1 } }),
        json!({ "a": null }),
        json!({ "a": [1] }),
    ];
    for word in 0..4 {
        all.push(plausible(shape, word));
    }
    let (fields, wrap): (&[Field], fn(Value) -> Value) = match shape {
        Shape::Object(fields) => (fields, |object| object),
        Shape::Items { fields, .. } | Shape::List(&Shape::Object(fields)) => (fields, |object| json!([object])),
        Shape::Map(&Shape::Object(fields)) => (fields, |object| json!({ "a": object })),
        _ => (&[], |object| object),
    };
    for field in fields {
        for value in values(field.shape) {
            let mut object = match plausible(shape, 0) {
                Value::Array(items) => items[0].clone(),
                Value::Object(entries) if matches!(shape, Shape::Map(_)) => entries["a"].clone(),
                object => object,
            };
            object[field.name] = value;
            all.push(wrap(object));
        }
        let mut without = match plausible(shape, 0) {
            Value::Array(items) => items[0].clone(),
            Value::Object(entries) if matches!(shape, Shape::Map(_)) => entries["a"].clone(),
            object => object,
        };
        if let Some(object) = without.as_object_mut() {
            object.remove(field.name);
        }
        all.push(wrap(without));
    }
    all
}

#[test]
fn of_every_field_of_every_kind_the_schema_says_what_validate_says() {
    let validator = validator(Of::Desired);
    let mut compared = 0;
    for kind in resource::ALL {
        let spec = kind.spec();
        let document = |item: &Value| match spec.identity.bare {
            Some(field) => json!({ spec.name: item[field] }),
            None if spec.is_only() => json!({ spec.name: item }),
            None => json!({ spec.name: [item] }),
        };
        let bases = resources(spec);
        assert!(!bases.is_empty(), "{}", spec.name);
        let mut items = Vec::new();
        for base in &bases {
            items.push(base.clone());
            for field in base.as_object().unwrap().keys() {
                let mut without = base.clone();
                without.as_object_mut().unwrap().remove(field);
                items.push(without);
            }
            for name in ["zz", "renamedFrom", "protected", "cascadeDelete"] {
                for value in [json!("y"), json!(true), json!(null)] {
                    let mut more = base.clone();
                    more[name] = value;
                    items.push(more);
                }
            }
            for (_, field) in spec.fields() {
                for value in values(field.shape) {
                    let mut changed = base.clone();
                    changed[field.name] = value;
                    items.push(changed);
                }
            }
        }
        items.dedup();
        for item in items.iter().filter(|item| spec.identity.bare.is_none_or(|field| item.get(field).is_some())) {
            let document = document(item);
            let (errors, says) = (errors(&format!("{document}\n")), says(&validator, &document));
            // What a kind's own check knows of contents, such as what an address looks like, no schema says.
            let is_content = !(spec.check)(item.as_object().unwrap()).is_empty();
            // Where a list or an item stands twice, each is of the right shape.
            let is_twice = errors.iter().any(|error| error.contains("twice"));
            let may_be_taken = errors.is_empty() || is_content || is_twice;
            assert!(may_be_taken || !says.is_empty(), "the schema takes {document}, and validate says {errors:?}");
            assert!(says.is_empty() || !errors.is_empty(), "validate takes {document}, and the schema says {says:?}");
            compared += 1;
        }
    }
    assert!(compared > 1000, "{compared}");
}

#[test]
fn what_the_settings_cannot_be_the_schema_refuses_too() {
    let validator = validator(Of::Config);
    let project = "projects: [{ name: p, projectId: P2abcdefghijklmnopqrstuvwxy, managementKey: { env: K } ";
    let dir = tempfile::tempdir().unwrap();
    let loads = |text: &str| {
        let path = dir.path().join("c.yaml");
        fs::write(&path, text).unwrap();
        let overrides = Overrides { config: Some(path.display().to_string()), ..Overrides::default() };
        Config::load(&overrides).map(|_| ()).map_err(|error| error.to_string())
    };
    for wrong in [
        "version: 2",
        "sources: {}",
        "source: { pth: x }",
        "source: { interval: 5 }",
        "source: { interval: 1 month }",
        "source: { exclude: x }",
        "concurrency: 0",
        "concurrency: many",
        "requestTimeout: soon",
        "http: { port: 1 }",
        "http: { listen: here }",
        "http: { token: abc }",
        "rateLimit: { limit: fast }",
        "rateLimit: { limit: 0/60s }",
        "rateLimit: { reserve: 200% }",
        "rateLimit: { probe: maybe }",
        "rateLimit: { shape: round }",
        "rateLimit: { algorithm: luck }",
        "rateLimit: { adaptive: { minRate: 0 } }",
        "retry: { maxAttempts: 0 }",
        "log: { format: xml }",
        "projects: []",
        "projects: [{}]",
        "projects: [{ name: a b }]",
        "state: { path: '' }",
    ] {
        assert!(loads(wrong).is_err(), "{wrong}");
        assert_ne!(says(&validator, &documents(wrong)[0]), Vec::<String>::new(), "{wrong}");
    }
    for wrong in [
        "policy: all",
        "firstContact: no",
        "guards: { maxDeletes: { rolls: 1 } }",
        "guards: { maxDeletes: -1 }",
        "guards: { maxDeletePercent: 101 }",
        "guards: { deleteAfter: later }",
        "secrets: { env: A }",
        "path: []",
        "baseUrl: [x]",
        "owner: 'a/b'",
        "managementkey: x",
        "secrets: { dirs: x }",
        "secrets: { dir: x, shared: 2 }",
    ] {
        let text = format!("{project}, {wrong} }}]\n");
        assert!(loads(&text).is_err(), "{text}");
        assert_ne!(says(&validator, &documents(&text)[0]), Vec::<String>::new(), "{text}");
    }
    for right in [
        "policy: sync",
        "path: [a, b]",
        "baseUrl: ~",
        "baseUrl: { env: B }",
        "guards: { maxDeletes: 3 }",
        "guards: { maxDeletes: { default: 10, roles: 1 }, maxMissing: { percent: off } , maxChangePercent: off }",
        "guards: ~",
        "secrets: { env: ['A_*'], dir: /run/secrets }",
        "secrets: { dir: /run/secrets, shared: true }",
        "guards: { deleteAfter: 0s, approvalExpiry: 1h30m }",
        "builtInRoles: []",
    ] {
        let text = format!("{project}, {right} }}]\nrateLimit: {{ limit: null, reserve: 10 }}\nsource: ~\n");
        assert_eq!(loads(&text), Ok(()), "{text}");
        assert_eq!(says(&validator, &documents(&text)[0]), Vec::<String>::new(), "{text}");
    }
}
