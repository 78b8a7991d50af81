use super::*;
use crate::desired::Finding;
use crate::desired::testing::KINDS;
use globset::Glob;
use globset::GlobSetBuilder;
use serde_json::Value as Json;
use serde_json::json;

fn report(text: &str) -> FileReport {
    let env = GlobSetBuilder::new().add(Glob::new("*").unwrap()).build().unwrap();
    let fence = Fence { env, own_env: vec!["PROD_KEY".to_owned()], ..Fence::default() };
    Checker { kinds: KINDS, fence: &fence }.check(&"a.yaml".into(), text)
}

fn lines(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

#[test]
fn every_supported_statement_is_read_into_its_canonical_form() {
    let report = report(
        "version: 1
permissions:
  - name: doc.read # a comment
    description: \"\"
roles:
  - name: Editor
    permissionNames: [b, a, b]
    default: true
    renamedFrom: Writer
  - {tenantId: no, name: no, description: null}
  - {tenantId: '', name: Viewer}
---
tenants:
  - id: acme
    name: Acme
    customAttributes: {tier: gold, seats: 3.0, ratio: 0.5, paid: true, tags: [y, x], gone: null, env: production}
    roleInheritance: userOnly
    protected: true
    cascadeDelete: false
    defaultRoles: []
",
    );

    assert_eq!(lines(&report.errors), Vec::<String>::new());
    assert_eq!(lines(&report.warnings), Vec::<String>::new());
    assert_eq!(report.kinds, BTreeSet::from(["permissions", "roles", "tenants"]));
    let found: Vec<_> = report.resources.iter().map(|r| (r.key.to_string(), r.place.line)).collect();
    let expected = [("permissions/doc.read", 3), ("roles/Editor", 6), ("roles/no/no", 10), ("roles/Viewer", 11)];
    let expected = expected.into_iter().chain([("tenants/acme", 14)]);
    assert_eq!(found, expected.map(|(key, line)| (key.to_owned(), line)).collect::<Vec<_>>());
    let fields: Vec<_> = report.resources.iter().map(|r| Json::Object(r.fields.to_document())).collect();
    assert_eq!(fields[0], json!({ "description": "" }));
    assert_eq!(fields[1], json!({ "permissionNames": ["a", "b"], "default": true }));
    assert_eq!(fields[2], json!({ "description": null }));
    assert_eq!(fields[3], json!({}));
    let attributes = json!({
        "tier": "gold", "seats": 3, "ratio": 0.5, "paid": true, "tags": ["y", "x"], "gone": null,
        "env": "production"
    });
    let acme = json!({ "name": "Acme", "customAttributes": attributes, "roleInheritance": "userOnly",
        "defaultRoles": [] });
    assert_eq!(fields[4], acme);
    assert_eq!(report.resources[1].renamed_from.as_deref(), Some("Writer"));
    assert_eq!((report.resources[4].protected, report.resources[4].cascade_delete), (Some(true), Some(false)));
}

#[test]
#[allow(clippy::too_many_lines, reason = "a case for each message")]
fn what_is_wrong_is_told_with_its_place_and_a_remedy() {
    for (text, expected) in [
        ("", vec!["a.yaml: is empty; if it shall declare nothing, remove it or leave a comment in it"]),
        (" \n\r\n", vec!["a.yaml: is empty; if it shall declare nothing, remove it or leave a comment in it"]),
        ("# nothing\n", vec![]),
        ("---\n", vec![]),
        ("- a\n", vec!["a.yaml:1: a document must map kinds to lists (`roles:`) but is a list"]),
        ("version: 2\n", vec!["a.yaml:1: version: must be 1, the only version of this format"]),
        ("role: []\n", vec!["a.yaml:1: `role` is not a kind of resource; did you mean `roles`?"]),
        ("x: []\n", vec!["a.yaml:1: `x` is not a kind of resource"]),
        (
            "roles:\n",
            vec![
                "a.yaml:1: roles: has nothing after it; write `roles: []` to declare that there are none, \
                 or take the line out",
            ],
        ),
        ("roles: []\n", vec![]),
        (
            "roles: {name: a}\n",
            vec!["a.yaml:1: roles: must be a list, each item beginning with `- `, but is a mapping"],
        ),
        ("roles: []\nroles: []\n", vec!["a.yaml:2: the key `roles` stands here twice, first on line 1; keep one"]),
        ("roles:\n  - Editor\n", vec!["a.yaml:2: roles: must be a mapping of fields but is a text"]),
        ("roles:\n  -\n", vec!["a.yaml:2: roles: must be a mapping of fields but is null"]),
        ("roles:\n  - description: x\n", vec!["a.yaml:2: roles: name: is missing; it identifies the resource"]),
        (
            "roles:\n  - description: x\n    name: ''\n",
            vec!["a.yaml:3: roles: name: is empty; it identifies the resource"],
        ),
        ("roles:\n  - name: 12\n", vec!["a.yaml:2: roles: name: must be a text but is a number; put it in quotes"]),
        (
            "roles:\n  - name: a\n    tenantId: 12\n",
            vec!["a.yaml:3: roles: tenantId: must be a text but is a number; put it in quotes"],
        ),
        (
            "roles:\n  - name: a\n    permisionNames: []\n",
            vec!["a.yaml:3: roles/a: permisionNames: roles have no such field; did you mean `permissionNames`?"],
        ),
        (
            "roles:\n  - name: a\n    permissionNames: hunter2\n    default: 'hunter2'\n    private: 1\n",
            vec![
                "a.yaml:3: roles/a: permissionNames: must be a list of texts but is a text; put it in brackets: [ ... ]",
                "a.yaml:4: roles/a: default: must be true or false but is a text; write it without quotes",
                "a.yaml:5: roles/a: private: must be true or false but is a number",
            ],
        ),
        (
            "roles:\n  - name: a\n    permissionNames:\n      - 1\n      - ''\n",
            vec![
                "a.yaml:4: roles/a: permissionNames: every item of the list must be a text but is a number; \
                 put it in quotes",
                "a.yaml:5: roles/a: permissionNames: an item of the list is empty",
            ],
        ),
        (
            "tenants:\n  - id: a\n",
            vec!["a.yaml:2: tenants/a: name: is missing; the API refuses to create one without it"],
        ),
        ("tenants:\n  - id: a\n    name:\n", vec!["a.yaml:3: tenants/a: name: is null but must be a text"]),
        ("tenants:\n  - {id: a, name: ''}\n", vec!["a.yaml:2: tenants/a: name: is empty"]),
        (
            "outboundApps:\n  - {id: a, name: A, clientSecret: }\n",
            vec!["a.yaml:2: outboundApps/a: clientSecret: is null but must be a reference to a secret"],
        ),
        (
            "tenants:\n  - {id: a, name: A, roleInheritance: useronly}\n",
            vec![
                "a.yaml:2: tenants/a: roleInheritance: must be one of \"\", \"none\", \"userOnly\"; \
                 did you mean `userOnly`?",
            ],
        ),
        (
            "tenants:\n  - {id: a, name: A, customAttributes: {b: {c: d}, e: [1]}}\n",
            vec![
                "a.yaml:2: tenants/a: customAttributes.b: must be a text, a number, a boolean or a list of texts \
                 but is a mapping",
                "a.yaml:2: tenants/a: customAttributes.e: every item of the list must be a text but is a number; \
                 put it in quotes",
            ],
        ),
        (
            "tenants:\n  - {id: a, name: A, renamedFrom: b}\n",
            vec!["a.yaml:2: tenants/a: renamedFrom: tenants cannot be renamed"],
        ),
        (
            "roles:\n  - {name: a, renamedFrom: a}\n",
            vec!["a.yaml:2: roles/a: renamedFrom: is the name that the resource has now; write the old name"],
        ),
        (
            "roles:\n  - {name: a, cascadeDelete: true, protected: yes}\n",
            vec![
                "a.yaml:2: roles/a: cascadeDelete: roles have no cascading delete",
                "a.yaml:2: roles/a: protected: must be true or false but is a text; write it without quotes",
            ],
        ),
        (
            "tenants:\n  - {id: a, name: A, cascadeDelete: }\n",
            vec!["a.yaml:2: tenants/a: cascadeDelete: must be true or false but is null"],
        ),
    ] {
        assert_eq!(lines(&report(text).errors), expected, "{text}");
    }
}

#[test]
fn a_reference_to_a_secret_meets_the_fence_before_anything_else() {
    let own = "refers to a credential of the daemon itself, which the config repo may never use";
    for (value, expected) in [
        ("description: {env: DESCOPE_MANAGEMENT_KEY}", format!("roles/a: description: {own}")),
        ("name: {env: PROD_KEY}", format!("roles: name: {own}")),
        ("tenantId: {env: PROD_KEY}", format!("roles: tenantId: {own}")),
        ("secret: {env: DESCOPE_GITOPS_TOKEN}", format!("roles/a: secret: {own}")),
        ("description: {env: HOME}", "roles/a: description: takes no secret; write the value itself".to_owned()),
        (
            "description: {file: /proc/self/environ}",
            "roles/a: description: files are not allowed here; the project's `secrets.dir` must name the \
                 directory they are in"
                .to_owned(),
        ),
    ] {
        let text = if value.starts_with("name") {
            format!("roles:\n  - {value}\n")
        } else {
            format!("roles:\n  - name: a\n    {value}\n")
        };
        let found = lines(&report(&text).errors);

        assert!(found.iter().any(|line| line.ends_with(&expected)), "{expected} not in {found:?}");
    }
    let attributes = "tenants:\n  - {id: a, name: A, customAttributes: {key: {env: PROD_KEY}}}\n";
    assert_eq!(lines(&report(attributes).errors), [format!("a.yaml:2: tenants/a: customAttributes.key: {own}")]);
    let whole = "tenants:\n  - {id: a, name: A, customAttributes: {env: PROD_KEY}}\n";
    assert_eq!(lines(&report(whole).errors), [format!("a.yaml:2: tenants/a: customAttributes: {own}")]);
}

#[test]
fn no_message_repeats_a_value() {
    let text = "roles:
  - name: a
    description: [hunter2]
    permissionNames: {hunter2: hunter2}
    default: hunter2
    private: [hunter2]
tenants:
  - {id: b, name: {x: hunter2}, customAttributes: hunter2, roleInheritance: hunter2, parent: [hunter2]}
  - &hunter2 [*hunter2]
permissions: \"hunter2
";
    for finding in report(text).errors.iter() {
        assert!(!finding.to_string().contains("hunter2"), "{finding}");
    }
}

#[test]
fn bom_and_crlf_change_nothing_but_the_bytes() {
    let unix = "roles:\n  - name: a\n    description: |\n      one\n      two\n";
    let windows = format!("\u{feff}{}", unix.replace('\n', "\r\n"));

    assert_eq!(report(&windows), report(unix));
    assert_eq!(report(unix).resources[0].fields.to_document()["description"], "one\ntwo\n");
}

#[test]
fn an_empty_map_of_attributes_is_worth_a_warning() {
    let report = report("tenants:\n  - id: a\n    name: A\n    customAttributes: {}\n");

    assert_eq!(
        lines(&report.warnings),
        ["a.yaml:4: tenants/a: customAttributes: manages nothing: attributes are managed one by one; \
              `null` clears all of them"]
    );
    assert_eq!(report.resources[0].fields.to_document()["customAttributes"], json!({}));
}

#[test]
fn a_file_that_is_wrong_throughout_is_cut_short() {
    let text = format!("roles:\n{}", "  - 1\n".repeat(1500));

    let errors = report(&text).errors;

    assert_eq!((errors.len(), errors.count()), (300, 1500));
}

fn found_in(text: &str) -> Vec<String> {
    let checker = Checker { kinds: crate::resource::ALL, fence: &Fence::default() };
    lines(&checker.check(&"a.yaml".into(), text).errors)
}

/// They were valid, and no call took the create.
#[test]
fn what_no_create_does_without_is_missed_in_every_kind() {
    for spec in crate::resource::ALL.iter().map(|kind| kind.spec()) {
        let Some(identity) = spec.identity.field else { continue };
        let found = found_in(&format!("{}:\n  - {{ {identity}: a }}\n", spec.name)).join("\n");
        for (_, field) in spec.fields().filter(|(_, field)| field.is_needed && field.name != identity) {
            let expected = format!("a.yaml:2: {}/a: {}: is missing", spec.name, field.name);
            assert!(found.contains(&expected), "{expected}: {found}");
        }
    }
    assert_eq!(
        found_in("ssoApplications:\n  - { id: a, name: A }\n"),
        [
            "a.yaml:2: ssoApplications/a: type: is missing; the API refuses to create one without it; write \"oidc\", \"saml\" \
          or \"wsfed\""
        ]
    );
    for kind in ["userAttributes", "ssoApplicationAttributes", "tenantAttributes", "accessKeyAttributes"] {
        assert_eq!(found_in(&format!("{kind}:\n  - {{ name: a }}\n")).len(), 1, "{kind}");
    }
}

/// It was created, and never changed or deleted again.
#[test]
fn what_ships_with_descope_cannot_be_declared_by_its_name() {
    assert_eq!(
        found_in("ssoApplications:\n  - { id: descope-default-mine, name: A, type: oidc }\n"),
        [
            "a.yaml:2: ssoApplications/descope-default-mine: id: begins with `descope-default`, as what ships with Descope \
          does, which is never changed; take it out, or give yours another one"
        ]
    );
}
