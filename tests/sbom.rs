//! The bill of materials names what `cargo` builds the binary from, and nothing else.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).env("SOURCE_DATE_EPOCH", "1700000000").output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Of some file, as that of a binary is written.
fn bill(file: &Path) -> String {
    output("deploy/sbom", &[file.to_str().unwrap()])
}

/// Names and versions of what these edges lead to, but for the daemon itself.
fn crates(edges: &str) -> BTreeSet<(String, String)> {
    let text = output("cargo", &["tree", "--locked", "--edges", edges, "--prefix", "none", "--format", "{p}"]);
    let named = text.lines().filter_map(|line| line.split_once(" v"));
    let named = named.map(|(name, rest)| (name.to_owned(), rest.split(' ').next().unwrap().to_owned()));
    named.filter(|(name, _)| name != "descope-gitops").collect()
}

fn components(bill: &Value) -> Vec<&Value> {
    bill["components"].as_array().unwrap().iter().collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
fn it_names_what_is_linked_and_what_ran_for_it_and_the_binary_by_its_digest() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("binary");
    fs::write(&file, "bytes").unwrap();

    let written = bill(&file);

    assert_eq!(bill(&file), written, "the same, at another time");
    let bill: Value = serde_json::from_str(&written).unwrap();
    let named = |scope: &[&str]| {
        let of = components(&bill).into_iter().filter(|one| scope.contains(&one["scope"].as_str().unwrap()));
        of.map(|one| (text(&one["name"]), text(&one["version"]))).collect::<BTreeSet<_>>()
    };
    assert_eq!(named(&["required", "excluded"]), crates("no-dev"));
    assert_eq!(components(&bill).len(), crates("no-dev").len());
    let linked = crates("normal,no-proc-macro");
    assert_eq!(named(&["required"]), linked);
    assert!(linked.iter().any(|(name, _)| name == "tokio") && !linked.iter().any(|(name, _)| name == "serde_derive"));

    let binary = &bill["metadata"]["component"];
    // `printf bytes | sha256sum`
    let digest = "277089d91c0bdf4f2e6862ba7e4a07605119431f5d13f726dd352b06f1b206a9";
    assert_eq!(text(&binary["hashes"][0]["content"]), digest);
    assert_eq!(text(&binary["version"]), env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&bill["metadata"]["timestamp"]), "2023-11-14T22:13:20Z");
}

/// What `deploy/sbom` answers for a binary with these bytes: whether it writes a bill, and what it says beside it.
fn said_of(bytes: &str, revision: &str) -> (bool, String) {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("binary");
    fs::write(&file, bytes).unwrap();
    let output = Command::new("deploy/sbom").arg(&file).env("DESCOPE_GITOPS_REVISION", revision).output().unwrap();
    assert_eq!(output.status.success(), !output.stdout.is_empty());
    // Beside what cargo says of its locks.
    let said = String::from_utf8(output.stderr).unwrap();
    let said = said.lines().find(|line| line.starts_with("deploy/sbom: ")).unwrap_or_default();
    (output.status.success(), said.replace(file.to_str().unwrap(), "BINARY"))
}

/// A bill of one commit beside a binary of another names crates that are not in it.
#[test]
fn a_binary_of_another_commit_gets_no_bill() {
    let head = output("git", &["rev-parse", "--short=12", "HEAD"]);
    let head = head.trim();
    let of = |commit: &str| format!("\u{0}0.1.0\ncommit {commit}\nbuilt 2026-11-29\ntarget x\u{0}");
    let unproven = format!(
        "deploy/sbom: nothing shows that BINARY was built from this checkout: it says commit unknown, the checkout {head}"
    );

    assert_eq!(said_of(&of(head), ""), (true, String::new()));
    assert_eq!(said_of(&of(&format!("{head}-dirty")), ""), (true, String::new()));
    assert_eq!(said_of(&of("v1.2"), "v1.2"), (true, String::new()), "as a build without git is told");
    assert_eq!(said_of(&of("unknown"), ""), (true, unproven.clone()));
    assert_eq!(said_of("bytes", ""), (true, unproven));
    let other = |commit: &str, here: &str| {
        format!(
            "deploy/sbom: BINARY was built from commit {commit}, and this checkout is at {here}: run the deploy/sbom of a \
             checkout of {commit}, or build anew with deploy/build"
        )
    };
    assert_eq!(said_of(&of("0123456789ab"), ""), (false, other("0123456789ab", head)));
    assert_eq!(said_of(&of("0123456789ab-dirty"), ""), (false, other("0123456789ab", head)));
    assert_eq!(said_of(&of(head), "v1.2"), (false, other(head, "v1.2")));
}

#[test]
fn each_crate_has_the_digest_of_the_lock_file_a_licence_and_what_it_depends_on() {
    let bill: Value = serde_json::from_str(&bill(Path::new("Cargo.toml"))).unwrap();

    let lock = fs::read_to_string("Cargo.lock").unwrap();
    // That of a crate of this repo is the commit's.
    let ours = |one: &Value| text(&one["name"]).starts_with("descope-gitops-");
    assert_eq!(components(&bill).into_iter().filter(|one| one["hashes"].is_null() && ours(one)).count(), 1);
    for one in components(&bill).into_iter().filter(|one| !ours(one)) {
        let (name, version, digest) = (text(&one["name"]), text(&one["version"]), text(&one["hashes"][0]["content"]));
        let expected = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        let locked = lock.split("[[package]]\n").find(|package| package.starts_with(&expected)).unwrap();
        assert!(locked.contains(&format!("checksum = \"{digest}\"")), "{name}: {digest}");
        assert!(!text(&one["licenses"][0]["expression"]).is_empty(), "{name}");
    }
    let sqlite = components(&bill).into_iter().find_map(|one| one["components"].get(0)).unwrap();
    assert_eq!(text(&sqlite["version"]), rusqlite::version());
    let refs: BTreeSet<String> = components(&bill).iter().map(|one| text(&one["bom-ref"])).collect();
    let needs: BTreeMap<String, &Vec<Value>> = bill["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (text(&one["ref"]), one["dependsOn"].as_array().unwrap()))
        .collect();
    let needed: BTreeSet<String> = needs.values().flat_map(|needs| needs.iter().map(text)).collect();
    assert_eq!(needed, refs, "each is there because something needs it");
    assert_eq!(needs.len(), refs.len() + 1);
}

/// By the schemas of the format; `.ci/run` fetches the package.
#[test]
fn it_is_what_the_format_takes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/ci-tools/cyclonedx/node_modules/@cyclonedx/cyclonedx-library/res/schema");
    if !folder.is_dir() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no schemas of CycloneDX");
        return eprintln!("skipped: no schemas of CycloneDX");
    }
    let mut bill: Value = serde_json::from_str(&bill(Path::new("Cargo.toml"))).unwrap();
    let schema = fs::read_to_string(folder.join("bom-1.6.SNAPSHOT.schema.json")).unwrap();
    let schema = serde_json::from_str(&schema).unwrap();
    let validator = jsonschema::options().with_retriever(Files(folder)).build(&schema).unwrap();

    let wrong: Vec<String> =
        validator.iter_errors(&bill).map(|error| format!("{}: {error}", error.instance_path())).collect();

    assert!(wrong.is_empty(), "{wrong:#?}");
    bill["components"][0]["scope"] = "perhaps".into();
    assert!(!validator.is_valid(&bill));
}

/// The schemas refer to each other by address.
struct Files(PathBuf);

impl jsonschema::Retrieve for Files {
    fn retrieve(&self, uri: &jsonschema::Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let name = uri.as_str().rsplit('/').next().unwrap_or_default();
        Ok(serde_json::from_str(&fs::read_to_string(self.0.join(name))?)?)
    }
}
