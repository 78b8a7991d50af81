//! `export --update`: files that people wrote say what lives, and are otherwise as they were.

use crate::harness::Setup;
use crate::harness::World;
use serde_json::Value;
use serde_json::json;
use std::fs;

/// Comments, anchors, aliases, every sort of quotes, brackets and lines, an odd indent, a blank line too many, and no end of line.
const ODD: &str = "# Ours.   \n\npermissions:   # what roles grant\n  - {name: 'doc:read' , description: \"reads \\u00e9\"} # first\n  \
    # between\n  -   name:   doc.write\n      description: 'it''s written'   # why\n\n\nroles:\n- name: Editor # a name\n  permissionNames: &all\n    \
    - doc.write   # both\n    # and\n    - \"doc:read\"\n  default: false\n- name: Viewer\n  description: |\n    line one\n\n    line two\n  \
    permissionNames: [ 'doc:read',  doc.write ]   # in brackets\n- {name: Copy, permissionNames: *all}\n---\n# Tenants.\ntenants:\n  - id: acme\n    \
    name: \"Acme\"\n    selfProvisioningDomains:\n      - b.example  # bee\n      - a.example\n    customAttributes: {plan: gold, 'seats': 7}\n    \
    settings:\n      enabled:   true   # yes\n      sessionTokenExpiration: 0x0a\n      sessionTokenExpirationUnit: minutes\n    \
    defaultRoles: [Viewer]";

struct Case {
    entity: &'static str,
    changed: Value,
    from: &'static str,
    to: &'static str,
}

async fn world(text: &str) -> World {
    let guards = "guards: { weakening: off, lockout: off }".to_owned();
    let setup = Setup { project: vec!["firstContact: apply".to_owned(), guards], ..Setup::default() };
    let world = World::with(setup).await;
    world.write("odd.yaml", text);
    let output = world.run(&["apply", "--auto-approve"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    world
}

fn said(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn update(world: &World, more: &[&str], code: i32) -> String {
    let repo = world.path("repo");
    let mut args = vec!["export", "--update", repo.to_str().unwrap()];
    args.extend(more);
    let output = world.run(&args).await;
    assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    said(&output)
}

fn text(world: &World) -> String {
    fs::read_to_string(world.path("repo/odd.yaml")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_live_field_changes_one_line() {
    let odd = ODD.replace("- {name: Copy, permissionNames: *all}\n", "");
    let world = world(&odd).await;
    assert!(update(&world, &[], 0).await.contains("nothing to change"));
    assert_eq!(text(&world), odd);
    let cases = [
        Case {
            entity: "permissions/doc.write",
            changed: json!({ "description": "it's \"new\": #1" }),
            from: "'it''s written'   # why",
            to: "'it''s \"new\": #1'   # why",
        },
        Case {
            entity: "permissions/doc:read",
            changed: json!({ "description": "a \"b\"" }),
            from: "\"reads \\u00e9\"} # first",
            to: "\"a \\\"b\\\"\"} # first",
        },
        Case { entity: "tenants/acme", changed: json!({ "name": "null" }), from: "\"Acme\"", to: "\"null\"" },
        Case {
            entity: "tenants/acme",
            changed: json!({ "customAttributes": { "plan": "silver, or so", "seats": 7 } }),
            from: "{plan: gold, 'seats'",
            to: "{plan: \"silver, or so\", 'seats'",
        },
        Case {
            entity: "tenants/acme",
            changed: json!({ "selfProvisioningDomains": ["b.example", "a.example", "c.example"] }),
            from: "      - a.example\n",
            to: "      - a.example\n      - c.example\n",
        },
        Case {
            entity: "tenants/acme",
            changed: json!({ "selfProvisioningDomains": ["a.example", "c.example"] }),
            from: "      - b.example  # bee\n",
            to: "",
        },
        Case {
            entity: "roles/Editor",
            changed: json!({ "default": true }),
            from: "  default: false",
            to: "  default: true",
        },
        Case {
            entity: "roles/Viewer",
            changed: json!({ "description": "line one\n\nline 2\n" }),
            from: "line two",
            to: "line 2",
        },
        Case {
            entity: "roles/Viewer",
            changed: json!({ "permissionNames": ["doc:read"] }),
            from: "[ 'doc:read',  doc.write ]   #",
            to: "['doc:read']   #",
        },
        Case {
            entity: "tenantSettings/acme",
            changed: json!({ "enabled": false }),
            from: "enabled:   true   # yes",
            to: "enabled:   false   # yes",
        },
        Case {
            entity: "tenantSettings/acme",
            changed: json!({ "sessionTokenExpiration": 12 }),
            from: "0x0a",
            to: "12",
        },
    ];
    let mut expected = odd;
    for Case { entity, changed, from, to } in cases {
        world.edit_live(entity, changed).await;
        assert_eq!(expected.matches(from).count(), 1, "{from}");
        expected = expected.replace(from, to);

        let said = update(&world, &[], 0).await;

        assert_eq!(text(&world), expected, "{entity}: {said}");
        assert!(said.contains("odd.yaml"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_share_is_told_and_nothing_is_written() {
    let world = world(ODD).await;
    world.edit_live("permissions/doc.write", json!({ "description": "new" })).await;
    world.edit_live("roles/Copy", json!({ "permissionNames": ["doc:read"] })).await;

    let said = update(&world, &[], 1).await;

    assert!(said.contains("odd.yaml:23: roles/Copy: permissionNames: the value comes from an anchor"), "{said}");
    assert!(said.contains("nothing was written"), "{said}");
    assert_eq!(text(&world), ODD);

    // The anchor itself, too.
    world.edit_live("roles/Copy", json!({ "permissionNames": ["doc:read", "doc.write"] })).await;
    world.edit_live("roles/Editor", json!({ "permissionNames": ["doc:read"] })).await;
    assert!(update(&world, &[], 1).await.contains("roles/Editor: permissionNames: the value comes from an anchor"));
    assert_eq!(text(&world), ODD);
    // What it is not asked for it leaves alone.
    update(&world, &["--kind", "permissions"], 0).await;
    assert_eq!(text(&world), ODD.replace("'it''s written'", "'new'"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_and_went_comes_and_goes() {
    const TEXT: &str = "\u{feff}# Ours.\r\nroles:\r\n  - name: a # first\r\n    default: true\r\n  # of b\r\n  - name: b\r\n\
        permissions: [{ name: p }]\r\n";
    let world = world(TEXT).await;
    world.delete_live("roles/a").await;
    world.edit_live("permissions/q", json!({ "description": "new" })).await;

    let said = update(&world, &[], 0).await;

    let text = text(&world);
    assert_eq!(text, TEXT.replace("  - name: a # first\r\n    default: true\r\n", ""), "{said}");
    let added = fs::read_to_string(world.path("repo/permissions.yaml")).unwrap();
    assert!(added.ends_with("permissions:\n  - name: q\n    description: new\n"), "{added}");
    world.delete_live("roles/b").await;
    update(&world, &[], 0).await;
    let left = fs::read_to_string(world.path("repo/odd.yaml")).unwrap();
    assert_eq!(left, "\u{feff}# Ours.\r\nroles: []\r\n  # of b\r\npermissions: [{ name: p }]\r\n");
    // In brackets nothing is taken out by itself.
    world.delete_live("permissions/p").await;
    assert!(update(&world, &[], 1).await.contains("take it out by hand"));
}
