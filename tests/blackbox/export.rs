//! `export`: what it writes is small, says all of it, and makes the same project again.

use crate::harness::Process;
use crate::harness::Setup;
use crate::harness::World;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Output;

/// Text by path below the folder.
fn files(folder: &Path) -> BTreeMap<String, String> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn expect(world: &World, args: &[&str], code: i32) -> String {
    let output = world.run(args).await;
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", said(&output));
    said(&output)
}

/// A project into which `repo` was applied.
async fn project(repo: &Path) -> World {
    let mut world = World::with(Setup::default()).await;
    let dir = world.path("secrets");
    fs::create_dir(&dir).unwrap();
    let secrets = format!("secrets: {{ env: ['SECRET_*'], dir: {} }}", dir.display());
    // What is exported may protect less than what a project begins with.
    let guards = "guards: { weakening: off }".to_owned();
    world.reconfigure(|setup| setup.project = vec!["firstContact: apply".to_owned(), secrets, guards]);
    for text in files(repo).values() {
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if word.starts_with("SECRET_") {
                world.environment.push((word.to_owned(), format!("of {word}")));
            }
        }
    }
    expect(&world, &["apply", "--auto-approve", "--source", repo.to_str().unwrap()], 0).await;
    world
}

const SMALL: &str = "
permissions:
  - { name: 'doc:write', description: \"one\\ntwo\\n\" }
  - { name: 'doc:read' }
roles:
  - { name: 'No', permissionNames: ['doc:write', 'doc:read'], default: true }
  - { name: Owner, tenantId: acme }
tenants:
  - { id: acme, name: Acme, customAttributes: {}, selfProvisioningDomains: [b.example, a.example] }
ssoApplications:
  - { id: portal, type: oidc, name: Portal, enabled: false }
  - { id: wiki, type: wsfed, name: Wiki, realm: r, replyUrl: 'https://w.example/r', enabled: true }
";

#[tokio::test(flavor = "multi_thread")]
async fn it_is_minimal_sorted_and_names_what_to_fill_in() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.yaml"), SMALL).unwrap();
    let world = project(dir.path()).await;
    let out = world.path("out");

    let said = expect(&world, &["export", "--dir", out.to_str().unwrap(), "--verify"], 0).await;

    let found = files(&out);
    let header = "# yaml-language-server: $schema=.desired.schema.json\n";
    let expected = [
        (
            "permissions.yaml",
            "permissions:
  - name: \"doc:read\"
  - name: \"doc:write\"
    description: |
      one
      two
",
        ),
        (
            "roles.yaml",
            "roles:
  - name: \"No\"
    permissionNames: [\"doc:read\", \"doc:write\"]
    default: true
  - name: Owner
    tenantId: acme
",
        ),
    ];
    for (name, text) in expected {
        assert_eq!(found.get(name), Some(&format!("{header}{text}")), "{name}: {found:?}");
    }
    // A tenant answers the rules of the project where it has none of its own: then there is nothing to say.
    let tenant = "tenants:
  - id: acme
    name: Acme
    selfProvisioningDomains: [a.example, b.example]
    settings:
      selfProvisioningDomains: [a.example, b.example]
      authType: none
      enabled: false
      enableInactivity: false
";
    assert!(found["tenants/acme.yaml"].ends_with(tenant), "{found:?}");
    let apps = &found["ssoApplications.yaml"];
    assert!(apps.contains("clientSecret: { env: SECRET_SSO_APPLICATIONS_PORTAL_CLIENT_SECRET }"), "{apps}");
    assert!(apps.contains("enabled: false") && !apps.contains("enabled: true"), "{apps}");
    assert_eq!(apps.matches("clientSecret").count(), 1, "the other one has no such field: {apps}");
    assert!(
        said.contains("SECRET_SSO_APPLICATIONS_PORTAL_CLIENT_SECRET   ssoApplications/portal: clientSecret"),
        "{said}"
    );
    assert!(said.contains("verified: the files say what the project holds, but for 1 secret"), "{said}");
    assert!(found[".desired.schema.json"].contains("json-schema.org"), "an editor finds the schema");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_of_every_kind_makes_the_same_project_again() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/sample");
    let first = project(&sample).await;
    // Drift and what nobody declares is exported like everything else.
    first.edit_live("tenants/clicked", json!({ "name": "Clicked together", "disabled": true })).await;
    let out = first.path("out");
    let said = expect(&first, &["export", "--dir", out.to_str().unwrap(), "--verify"], 0).await;
    assert!(said.contains("verified"), "{said}");
    let once = files(&out);
    for kind in descope_gitops::resource::ALL {
        assert!(once.keys().any(|name| name.starts_with(kind.name())), "no {} in {once:?}", kind.name());
    }

    let second = project(&out).await;
    let again = second.path("again");
    expect(&second, &["export", "--dir", again.to_str().unwrap()], 0).await;

    assert_eq!(files(&again), once);
    let report = second.run_json(&["plan", "-o", "json", "--source", out.to_str().unwrap()], 0).await;
    assert_eq!(report["projects"][0]["changes"], json!([]), "the state knows its secrets");

    // Files with documents beside them follow one change by one line, too.
    first.edit_live("tenants/clicked", json!({ "name": "Clicked again" })).await;
    expect(&first, &["export", "--update", out.to_str().unwrap()], 0).await;
    let mut expected = once;
    let text = expected.get_mut("tenants/clicked.yaml").unwrap();
    *text = text.replace("Clicked together", "Clicked again");
    assert_eq!(files(&out), expected);
}

/// Guards are on as usual: what protects less than what a new project begins with is held once, and said with the remedy.
#[tokio::test(flavor = "multi_thread")]
async fn what_protects_less_than_a_new_project_is_made_the_same_with_one_approval() {
    let repo = tempfile::tempdir().unwrap();
    fs::write(repo.path().join("a.yaml"), "passwordSettings: { minLength: 6, lock: false }\nroles: [{ name: R }]\n")
        .unwrap();
    let first = project(repo.path()).await;
    let out = first.path("out");
    let out = out.to_str().unwrap();
    expect(&first, &["export", "--dir", out, "--verify"], 0).await;

    let mut second = World::new().await;
    second.reconfigure(|setup| setup.project = vec!["firstContact: apply".to_owned()]);
    let said = expect(&second, &["apply", "--auto-approve", "--source", out], 4).await;
    assert!(said.contains("held update passwordSettings/passwordSettings: weakening (minLength goes down"), "{said}");
    let command = said.split('`').find(|part| part.starts_with("descope-gitops apply --approve ")).unwrap();
    let fingerprint = command.rsplit(' ').next().unwrap();
    expect(&second, &["apply", "--approve", fingerprint, "--source", out], 0).await;

    let again = second.path("again");
    expect(&second, &["export", "--dir", again.to_str().unwrap()], 0).await;
    assert_eq!(files(&again), files(Path::new(out)));
}

/// What is off or empty in one project may begin switched on or filled in another.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_off_where_it_begins_on_is_said() {
    const OFF: &str = "
passwordSettings: { enabled: true, minLength: 12, lowercase: true, uppercase: false, lock: true, lockAttempts: 5,
  disallowedCharacters: '', reuse: true, reuseAmount: 3, enablePasswordStrength: true, passwordStrengthScore: 2 }
tenants:
  - id: own
    name: Own
    passwordSettings: { enabled: true, minLength: 8, lowercase: false, lock: false, lockAttempts: 0, reuse: false, reuseAmount: 0,
      enablePasswordStrength: false, passwordStrengthScore: 0 }
    settings: { enabled: true, JITDisabled: true, ssoSetupSuiteSettings: { enabled: false, styleId: s, disabledFeatures: { scim: true, saml: false } } }
  - { id: plain, name: Plain }
ssoApplications:
  - { id: wiki, type: wsfed, name: Wiki, realm: r, replyUrl: 'https://w.example/r', enabled: false }
";
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.yaml"), OFF).unwrap();
    let first = project(dir.path()).await;
    // A number that cannot be declared so can live so.
    first.edit_live("passwordSettings/own", json!({ "minLength": 0 })).await;
    let out = first.path("out");
    expect(&first, &["export", "--dir", out.to_str().unwrap(), "--verify"], 0).await;
    let once = files(&out);
    let own = &once["tenants/own.yaml"];
    for line in
        ["      minLength: null", "      lowercase: false", "      lockAttempts: 0", "      passwordStrengthScore: 0"]
    {
        assert!(own.lines().any(|is| is == line), "{line} in {own}");
    }
    assert!(!once["tenants/plain.yaml"].contains("passwordSettings"), "{once:?}");
    assert!(once["passwordSettings.yaml"].contains("disallowedCharacters: \"\""), "{once:?}");

    let second = project(&out).await;
    let again = second.path("again");
    expect(&second, &["export", "--dir", again.to_str().unwrap()], 0).await;

    assert_eq!(files(&again), once);
    // Alone, it says all: the rules that it shares are not in the files.
    let alone = first.path("alone");
    expect(&first, &["export", "--dir", alone.to_str().unwrap(), "--kind", "tenants", "--verify"], 0).await;
    assert!(files(&alone)["tenants/plain.yaml"].contains("      minLength: 12"), "{:?}", files(&alone));
}

#[tokio::test(flavor = "multi_thread")]
async fn planned_without_a_state_nothing_but_secrets_differs() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/sample");
    let mut world = project(&sample).await;
    let out = world.path("out");
    let out = out.to_str().unwrap();
    expect(&world, &["export", "--dir", out], 0).await;
    for (_, text) in files(Path::new(out)) {
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| w.starts_with("SECRET_")) {
            world.environment.push((word.to_owned(), "s".to_owned()));
        }
    }

    let state = world.path("other-state");
    let args = ["plan", "-o", "json", "--source", out, "--state", state.to_str().unwrap()];
    let report = world.run_json(&args, 0).await;

    let project = &report["projects"][0];
    let fields = project["changes"].as_array().unwrap().iter().flat_map(|change| change["fields"].as_array().unwrap());
    assert!(fields.clone().all(|field| field["to"] == "(secret)"), "{project}");
    assert_eq!(project["refused"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_not_overwrite_unless_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.yaml"), "roles: [{ name: a }, { name: b }]\npermissions: [{ name: p }]\n").unwrap();
    let world = project(dir.path()).await;
    let out = world.path("out");
    fs::create_dir_all(out.join("deep")).unwrap();
    fs::write(out.join("deep/mine.yml"), "mine").unwrap();
    let to = out.to_str().unwrap().to_owned();

    let said = expect(&world, &["export", "--dir", &to], 1).await;
    assert!(said.contains("deep/mine.yml") && said.contains("--force"), "{said}");
    assert_eq!(files(&out).len(), 1, "nothing was written");

    fs::write(out.join("roles.yaml"), "old").unwrap();
    fs::remove_file(out.join("deep/mine.yml")).unwrap();
    expect(&world, &["export", "--dir", &to, "--force", "--target", "roles/b"], 0).await;
    let found = files(&out);
    assert!(found["roles.yaml"].ends_with("roles:\n  - name: b\n"), "{found:?}");
    assert!(!found.contains_key("permissions.yaml"), "{found:?}");
    assert!(expect(&world, &["export", "--dir", &to, "--kind", "rolls"], 64).await.contains("did you mean roles?"));
    assert!(expect(&world, &["export", "--dir", &to, "--target", "roles"], 64).await.contains("KIND/ID"));
    expect(&world, &["export", "--dir", &to, "--force", "--target", "roles/zz"], 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_files_do_not_say_fails_the_verification() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.yaml"), "roles: [{ name: a }]\n").unwrap();
    let world = project(dir.path()).await;
    let out = world.path("out");
    fs::create_dir_all(&out).unwrap();
    // It stays where it is, so the files declare what does not live.
    fs::write(out.join("more.yaml"), "roles: [{ name: gone }]\n").unwrap();

    let said = expect(&world, &["export", "--dir", out.to_str().unwrap(), "--force", "--verify"], 1).await;

    assert!(said.contains("not verified") && said.contains("roles/gone"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_an_error_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.yaml"), "roles: [{ name: a }]\n").unwrap();
    let world = project(dir.path()).await;
    world.faults(json!([{ "fault": "status", "status": 400, "match": { "path": "/v1/mgmt/role/all" } }])).await;
    let out = world.path("out");

    let said = expect(&world, &["export", "--dir", out.to_str().unwrap()], 1).await;

    assert!(said.contains("roles could not be read, so nothing was written"), "{said}");
    assert!(!out.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulator_seeded_from_an_export_holds_the_same() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/sample");
    let first = project(&sample).await;
    let out = first.path("out");
    expect(&first, &["export", "--dir", out.to_str().unwrap()], 0).await;
    let mut command = first.command(&["simulator", "--listen", "127.0.0.1:0", "--rate-limit", "none"]);
    command.args(["--seed-project", "P2seed", "--seed-from"]).arg(&out);
    let mut seeded = Process::start(command);
    let line = seeded.wait_for_line("its address", |line| line.starts_with("simulator listening on ")).await;
    let url = line.rsplit(' ').next().unwrap().to_owned();

    let again = first.path("again");
    let mut command = std::process::Command::new(crate::harness::BINARY);
    command.env_clear().args(["export", "--dir", again.to_str().unwrap()]);
    command.envs([("DESCOPE_PROJECT_ID", "P2seed"), ("DESCOPE_MANAGEMENT_KEY", "K2any"), ("DESCOPE_BASE_URL", &url)]);
    let output = World::end_of(command).await;

    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(files(&again), files(&out));
    seeded.signal(rustix::process::Signal::TERM);
    assert!(seeded.ended().await.success());
}
