//! `validate`: every error at once, in three forms, without a network or credentials.

use crate::harness::BINARY;
use crate::harness::World;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Output;

/// The binary in an empty environment: no credentials, no settings, and where it points nobody listens.
fn validate(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(BINARY);
    let Output { status, stdout, stderr } =
        command.env_clear().current_dir(dir).arg("validate").args(args).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn write(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

const WRONG: [(&str, &str); 3] = [
    (
        "roles.yaml",
        "# A comment.\nroles:\n  - { name: r, descriptoin: x }\n  - { name: s, permissionNames: [absent] }\npermissions: []\n",
    ),
    ("teams/50%,a.yaml", "tenants:\n  - { id: t }\n---\nrols: []\n"),
    ("teams/b.yml", "roles:\n  - { name: s }\n  - name: open\n    default: \"yes\"\n"),
];

#[test]
fn all_errors_come_at_once_in_each_form_to_the_letter() {
    let temp = tempfile::tempdir().unwrap();
    for (file, text) in WRONG {
        write(temp.path(), &format!("repo/{file}"), text);
    }
    let twice = "is declared twice; the other place is roles.yaml:4";
    let absent = "refers to permissions/absent, which is not declared and so must exist in the project already";

    let text = validate(temp.path(), &["--source", "repo"]);
    let json = validate(temp.path(), &["--source", "repo", "-o", "json"]);
    let github = validate(temp.path(), &["--source", "repo", "-o", "github"]);

    assert_eq!(
        text,
        (
            3,
            format!(
                "\
roles.yaml:3: roles/r: descriptoin: roles have no such field; did you mean `description`?
  --> roles.yaml:3:16
   3 |   - {{ name: r, descriptoin: x }}
     |                ^^^^^^^^^^^
teams/50%,a.yaml:2: tenants/t: name: is missing; the API refuses to create one without it
  --> teams/50%,a.yaml:2:5
   2 |   - {{ id: t }}
     |     ^
teams/50%,a.yaml:4: `rols` is not a kind of resource; did you mean `roles`?
  --> teams/50%,a.yaml:4:1
   4 | rols: []
     | ^^^^
teams/b.yml:2: roles/s: {twice}
  --> teams/b.yml:2:5
   2 |   - {{ name: s }}
     |     ^
teams/b.yml:4: roles/open: default: must be true or false but is a text; write it without quotes
  --> teams/b.yml:4:5
   4 |     default: \"yes\"
     |     ^^^^^^^
warning: roles.yaml:4: roles/s: {absent}
invalid: 5 errors
"
            ),
            String::new()
        )
    );
    assert_eq!((json.0, &*json.2), (3, ""));
    let error = |file: &str, line: u32, column: u32, resource: &str, field: &str, message: &str| json!({ "file": file, "line": line, "column": column, "resource": resource, "field": field, "message": message });
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&json.1).unwrap(),
        json!({
            "formatVersion": 1,
            "errors": [
                error("roles.yaml", 3, 16, "roles/r", "descriptoin", "roles have no such field; did you mean `description`?"),
                error("teams/50%,a.yaml", 2, 5, "tenants/t", "name",
                    "is missing; the API refuses to create one without it"),
                error("teams/50%,a.yaml", 4, 1, "", "", "`rols` is not a kind of resource; did you mean `roles`?"),
                error("teams/b.yml", 2, 5, "roles/s", "", twice),
                error("teams/b.yml", 4, 5, "roles/open", "default",
                    "must be true or false but is a text; write it without quotes"),
            ],
            "warnings": [error("roles.yaml", 4, 5, "roles/s", "", absent)],
        })
    );
    assert_eq!(
        github,
        (
            3,
            format!(
                "\
::error file=repo/roles.yaml,line=3,col=16::roles/r: descriptoin: roles have no such field; did you mean `description`?
::error file=repo/teams/50%25%2Ca.yaml,line=2,col=5::tenants/t: name: is missing; the API refuses to create one without it
::error file=repo/teams/50%25%2Ca.yaml,line=4,col=1::`rols` is not a kind of resource; did you mean `roles`?
::error file=repo/teams/b.yml,line=2,col=5::roles/s: {twice}
::error file=repo/teams/b.yml,line=4,col=5::roles/open: default: must be true or false but is a text; write it without quotes
::warning file=repo/roles.yaml,line=4,col=5::roles/s: {absent}
"
            ),
            String::new()
        )
    );
}

#[test]
fn a_valid_repo_is_done_and_a_usage_error_is_neither() {
    let temp = tempfile::tempdir().unwrap();
    write(temp.path(), "repo/a.yaml", "roles:\n  - { name: r }\n  - { name: s }\n");
    write(temp.path(), "unknown.yaml", "source: { path: repo, intervall: 5m }\n");

    assert_eq!(validate(temp.path(), &["--source", "repo"]), (0, "valid: 2 resources\n".to_owned(), String::new()));
    let (code, stdout, _) = validate(temp.path(), &["--source", "repo", "-o", "json"]);
    let document: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, document), (0, json!({ "formatVersion": 1, "errors": [], "warnings": [] })));
    assert_eq!(validate(temp.path(), &["--source", "repo", "-o", "github"]).0, 0);
    for args in [
        &[][..],
        &["--source"],
        &["--source", "repo", "-o", "xml"],
        &["--source", "repo", "extra"],
        &["--config", "missing.yaml"],
        &["--config", "unknown.yaml"],
    ] {
        let (code, stdout, stderr) = validate(temp.path(), args);
        assert_eq!((code, &*stdout, stderr.is_empty()), (64, "", false), "{args:?}: {stderr}");
    }
    let (code, stdout, _) = validate(temp.path(), &["--source", "nowhere"]);
    assert_eq!(code, 3, "{stdout}");
    assert!(stdout.starts_with(".: project default: the source directory nowhere does not exist\n"), "{stdout}");
}

#[test]
fn a_config_file_is_enough_without_what_it_refers_to() {
    let temp = tempfile::tempdir().unwrap();
    write(temp.path(), "repo/one/a.yaml", "roles:\n  - { name: r }\n");
    write(temp.path(), "repo/two/a.yaml", "roles:\n  - { nme: r }\n");
    let project = |name: &str| {
        format!(
            "  - {{ name: {name}, projectId: P2{name}, path: {name}, managementKey: {{ env: NOT_SET_{name} }},
      baseUrl: 'http://127.0.0.1:1' }}\n"
        )
    };
    let config = format!("source: {{ path: repo }}\nprojects:\n{}{}", project("one"), project("two"));
    write(temp.path(), "config.yaml", &config);

    let (code, stdout, stderr) = validate(temp.path(), &["--config", "config.yaml"]);

    assert_eq!((code, &*stderr), (3, ""));
    assert_eq!(
        stdout,
        "two/a.yaml:2: roles: name: is missing; it identifies the resource
  --> two/a.yaml:2:5
   2 |   - { nme: r }
     |     ^
two/a.yaml:2: roles: nme: roles have no such field; did you mean `name`?
  --> two/a.yaml:2:7
   2 |   - { nme: r }
     |       ^^^
invalid: 2 errors
"
    );
    assert!(!temp.path().join("state").exists(), "it leaves nothing behind");
}

#[test]
fn what_other_clients_refuse_is_a_warning() {
    let temp = tempfile::tempdir().unwrap();
    let long = |n: usize| "x".repeat(n);
    let text = format!(
        "permissions:\n  - {{ name: {}, description: {} }}\nroles:\n  - {{ name: {}, description: {} }}\n\
         userAttributes:\n  - {{ name: plan of theirs, type: string }}\n  - {{ name: {}, type: string }}\n",
        long(100),
        long(255),
        long(101),
        long(1024),
        long(20),
    );
    write(temp.path(), "repo/a.yaml", &text);

    let (code, stdout, stderr) = validate(temp.path(), &["--source", "repo"]);

    assert_eq!((code, &*stderr), (0, ""), "{stdout}");
    let warnings: Vec<&str> = stdout.lines().filter(|line| line.starts_with("warning: ")).collect();
    assert_eq!(warnings.iter().filter(|line| line.contains("other clients of the API")).count(), 3, "{stdout}");
    for part in ["description: has 255 characters", "name: has 101 characters", "name: has characters that"] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
}

#[test]
fn the_sample_is_valid_from_anywhere() {
    let temp = tempfile::tempdir().unwrap();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/config/sample");

    let (code, stdout, stderr) = validate(temp.path(), &["--source", sample]);

    assert_eq!((code, &*stderr), (0, ""), "{stdout}");
    // Where secrets are kept is a matter of the settings, and there are none.
    let needs_settings = |line: &str| line.contains(": secretFile: ") && line.contains("`secrets.dir`");
    assert!(stdout.lines().all(|line| line.starts_with("valid: ") || needs_settings(line)), "{stdout}");
}

#[tokio::test]
async fn yaml_of_every_style_means_what_it_says() {
    let mut world = World::new().await;
    world.write(
        "bom-and-crlf.yaml",
        "\u{feff}# Windows wrote this.\r\npermissions:\r\n  - name: crlf\r\n    description: |\r\n      two\r\n      lines\r\n",
    );
    world.write(
        "documents.yml",
        "---\n# The first.\npermissions:\n  - { name: first }\n---\n# Nothing but a comment.\n---\n\
         roles:\n  - { name: second, permissionNames: &all [first, crlf] }\n  - { name: third, permissionNames: *all }\n...\n",
    );
    world.write(
        "tenants.yaml",
        "tenants:\n  - id: no\n    name: No\n    customAttributes: { answer: no, country: NO, flag: true, number: 7 }\n\
         \x20 - { id: \"null\", name: ~no~ }\n",
    );
    world.write(".hidden.yaml", "broken: [");
    world.write("notes.txt", "broken: [");
    let (code, stdout, _) = validate(world.dir.path(), &["--source", "repo"]);
    assert_eq!((code, &*stdout), (0, "valid: 6 resources\n"));

    world.converge().await;

    assert_eq!(world.entity("permissions", "crlf").await.unwrap()["description"], "two\nlines\n");
    for role in ["second", "third"] {
        assert_eq!(world.entity("roles", role).await.unwrap()["permissionNames"], json!(["crlf", "first"]), "{role}");
    }
    let tenant = world.entity("tenants", "no").await.unwrap();
    let attributes = json!({ "answer": "no", "country": "NO", "flag": true, "number": 7 });
    assert_eq!((&tenant["name"], &tenant["customAttributes"]), (&json!("No"), &attributes));
    assert_eq!(world.entity("tenants", "null").await.unwrap()["name"], "~no~");
    world.assert_nothing_left().await;
}

#[test]
fn what_yaml_would_swallow_is_an_error_with_its_line() {
    let temp = tempfile::tempdir().unwrap();
    let cases = [
        ("roles:\n", "a.yaml:1: roles: has nothing after it; "),
        ("roles:\n  - { name: r, name: s }\n", "a.yaml:2: the key `name` stands here twice, first on line 2; "),
        ("roles: []\nroles: []\n", "a.yaml:2: the key `roles` stands here twice, first on line 1; "),
        ("roles:\n  - { <<: { name: r } }\n", "a.yaml:2: merge keys (`<<`) are not supported; "),
        ("tenants:\n  - { id: t, name: T, customAttributes: { x: .nan } }\n", "a.yaml:2: "),
        ("tenants:\n  - { id: t, name: T, customAttributes: { x: -.inf } }\n", "a.yaml:2: "),
        ("version: 2\nroles: []\n", "a.yaml:1: version: must be 1, "),
        ("version: {}\nroles: []\n", "a.yaml:1: version: must be 1, "),
        (
            "# Rules.\n%YAML 1.1\n---\nroles: []\n",
            "a.yaml:2: asks for the rules of YAML 1.1, but is read by those of 1.2; ",
        ),
        ("roles: []\n...\n%YAML 1.3\n---\nroles: []\n", "a.yaml:3: asks for the rules of YAML 1.3, "),
        ("roles:\n\t- name: r\n", "a.yaml:2: is not YAML: tabs disallowed "),
        ("roles:\n  - { name: 007 }\n", "a.yaml:2: roles: name: must be a text but is a number; put it in quotes"),
        ("y-base: {}\nroles: []\n", "a.yaml:1: `y-base` is not a kind of resource"),
        (
            "roles:\n<<<<<<< HEAD\n  - { name: r }\n=======\n  - { name: s }\n>>>>>>> theirs\n",
            "a.yaml:2: holds the markers of a merge conflict; resolve it",
        ),
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            "a.yaml:1: is a pointer of Git LFS and not the file itself; fetch it with `git lfs pull`",
        ),
        ("roles: []\n\n---\nflow: []\n", "a.yaml:4: `flow` is not a kind of resource; did you mean `flows`?"),
    ];
    for (text, expected) in cases {
        write(temp.path(), "repo/a.yaml", text);

        let (code, stdout, _) = validate(temp.path(), &["--source", "repo"]);

        assert_eq!(code, 3, "{text}");
        assert!(stdout.starts_with(expected), "{text}: {stdout}");
    }
    for text in [
        "version: 1\nroles: []\n",
        "%YAML 1.2\n---\nroles: []\n",
        "x-base: &base [p]\nx-more: { any: [thing, 1] }\npermissions: [{ name: p }]\nroles: [{ name: r, permissionNames: *base }]\n",
        "roles:\n- name:\tr\n  description:\t\t'with a:\ttab'\n",
    ] {
        write(temp.path(), "repo/a.yaml", text);
        let (code, stdout, _) = validate(temp.path(), &["--source", "repo"]);
        assert!(code == 0 && stdout.starts_with("valid: "), "{text}: {stdout}");
    }
}

// What somebody wrote in the wrong place may be a secret, and a log has more readers than the repo.
#[test]
fn an_excerpt_shows_no_secret() {
    let temp = tempfile::tempdir().unwrap();
    write(
        temp.path(),
        "repo/a.yaml",
        "ssoApplications:\n  - { id: a, type: oidc, name: A, clientSecret: hunter2, nam: b }\n  - id: b\n    clientSecrte: hunter2\n    \
         password: 'hunter2'\n    Xhunter2KeyOfSomething1234: x\n",
    );

    for form in ["text", "json", "github"] {
        let (code, stdout, stderr) = validate(temp.path(), &["--source", "repo", "-o", form]);

        assert_eq!((code, &*stderr), (3, ""), "{stdout}");
        assert!(!stdout.contains(": hunter2") && !stdout.contains("'hunter2"), "{stdout}");
        assert!(stdout.contains("clientSecrte"), "{stdout}");
    }
}

// One name of a MiB was quoted by each of a thousand findings: 1 GB of text and 2 GiB of memory.
#[test]
fn findings_are_counted_and_what_they_quote_is_bounded() {
    let temp = tempfile::tempdir().unwrap();
    let fields: String = (0..1000).map(|n| format!("    f{n}: x\n")).collect();
    write(temp.path(), "repo/a.yaml", &format!("roles:\n  - name: {}\n{fields}", "n".repeat(1 << 20)));
    let long = "k".repeat(1000);
    write(
        temp.path(),
        "repo/b.yaml",
        &format!("roles:\n  - {{ name: r, {long}: 1 }}\n  - {{ name: r }}\n{long}: []\n"),
    );
    write(temp.path(), "repo/c.yaml", &"- !x\n".repeat(200_000));

    let text = validate(temp.path(), &["--source", "repo"]);
    let json = validate(temp.path(), &["--source", "repo", "-o", "json"]);
    let github = validate(temp.path(), &["--source", "repo", "-o", "github"]);

    for (form, (code, stdout, _)) in [("text", &text), ("json", &json), ("github", &github)] {
        assert_eq!(*code, 3, "{form}");
        assert!(stdout.len() < 300_000, "{form}: {} bytes", stdout.len());
        assert!(stdout.contains("errors are not shown; mend these first"), "{form}: {stdout}");
    }
    // 1,000 fields in a.yaml, three in b.yaml, 200,000 tags in c.yaml and that it is no mapping.
    assert!(text.1.ends_with("invalid: 201004 errors\n"), "{}", &text.1[text.1.len() - 300..]);
    let shown: serde_json::Value = serde_json::from_str(&json.1).unwrap();
    assert_eq!(shown["errors"].as_array().unwrap().len(), 301);
}

#[tokio::test]
async fn the_status_counts_errors_beyond_a_few_hundred() {
    let mut world = World::new().await;
    let fields: String = (0..1000).map(|n| format!("    f{n}: x\n")).collect();
    world.write("a.yaml", &format!("roles:\n  - name: {}\n{fields}", "n".repeat(1 << 20)));
    world.start().await;

    world
        .until("301 errors", async |world| {
            world.project().await["desired"]["errors"].as_array().is_some_and(|errors| errors.len() == 301)
        })
        .await;

    let errors = world.project().await["desired"]["errors"].to_string();
    assert!(errors.len() < 300_000 && errors.contains("700 more errors are not shown"), "{} bytes", errors.len());
    assert!(world.daemon().lines().iter().all(|line| line.len() < 4000));
}

#[test]
fn what_is_rarely_meant_is_a_warning() {
    let temp = tempfile::tempdir().unwrap();
    write(
        temp.path(),
        "repo/a.yaml",
        "permissions:\n  - { name: Read }\n  - { name: read }\n  - { name: \"Caf\u{e9}\" }\n  - { name: \"Cafe\u{301}\" }\n  \
         - { name: 'Write ', description: ' x' }\nroles:\n  - { name: r, permissionNames: [READ, 'Write'] }\n  \
         - { name: r, tenantId: t }\ntenants:\n  - { id: t, name: T, selfProvisioningDomains: [a.com, A.com] }\n  \
         - { id: u, name: U, selfProvisioningDomains: [a.com, ' b.com'] }\n  \
         - { id: v, name: V, settings: { domains: [s.com] }, sso: [{ domains: [s.com], saml: { idpMetadataUrl: 'https://x.example/m' } }] }\n  \
         - { id: w, name: W, sso: [{ domains: [s.com], saml: { idpMetadataUrl: 'https://x.example/m' } }] }\n",
    );

    let (code, text, _) = validate(temp.path(), &["--source", "repo"]);

    let blank = "begins or ends with a blank, which Descope may drop; take it out";
    let missing = "which is not declared and so must exist in the project already";
    let expected = [
        "3: permissions/read: `read` differs from `Read`, at a.yaml:2, only in letter case; both are managed, if that is meant",
        "5: permissions/`Cafe\\u{301}`: `Cafe\\u{301}` differs from `Caf\\u{e9}`, at a.yaml:4, only in Unicode form; both are managed, if that is meant",
        &format!("6: permissions/`Write `: its name `Write ` {blank}"),
        &format!("6: permissions/`Write `: description: {blank}"),
        &format!("8: roles/r: refers to permissions/READ, {missing}; `read` is, which differs only in letter case"),
        &format!("8: roles/r: refers to permissions/Write, {missing}; `Write ` is, which differs only in blanks"),
        "11: tenants/t: selfProvisioningDomains: `A.com` is not in lower case, in which Descope may keep it; write it so",
        "11: tenants/t: selfProvisioningDomains: `a.com` stands here twice, but for its letter case or blanks",
        "12: tenants/u: selfProvisioningDomains: `a.com` is also claimed by tenants/t, at a.yaml:11; Descope gives a domain to one",
        &format!("12: tenants/u: selfProvisioningDomains: {blank}"),
        "14: tenants/w: domains: `s.com` is also claimed by tenants/v, at a.yaml:13; Descope gives a domain to one",
    ];
    let found: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("warning: a.yaml:")).collect();
    assert_eq!((code, found), (0, expected.to_vec()), "{text}");
}
