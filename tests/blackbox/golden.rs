//! What people read, as a whole: each output of a small repo is a file under `golden/`, to be looked at with an operator's eye. What
//! varies is masked. `UPDATE_GOLDEN=1 cargo nextest run --test blackbox golden` writes them anew.

use crate::harness::Setup;
use crate::harness::World;
use crate::terminal::Terminal;
use serde_json::json;
use std::env;
use std::fs;
use std::path::Path;

/// Compares with the file, after masking; the output of a terminal has `\e` for the escape character.
fn compare(world: &World, name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/blackbox/golden").join(name);
    let text = masked(world, text);
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
        return;
    }
    let kept = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(text == kept, "{name} reads otherwise now; UPDATE_GOLDEN=1 writes it anew:\n{text}\n--- it was:\n{kept}");
}

/// Without what differs from run to run: addresses, places, times, fingerprints.
fn masked(world: &World, text: &str) -> String {
    let dir = world.dir.path().display().to_string();
    let text = text.replace('\u{1b}', "\\e").replace("\r\n", "\n").replace(&dir, "/somewhere");
    let port = world.api.rsplit(':').next().unwrap();
    let text = text.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:PORT");
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let words: Vec<String> = line.split_inclusive([' ', '`', '(', ')', ',', ';']).map(word).collect();
        out.push_str(&words.concat());
    }
    out
}

fn word(word: &str) -> String {
    let bare = word.trim_end_matches([' ', '`', '(', ')', ',', ';', '\n']);
    let rest = &word[bare.len()..];
    let is_hex =
        |most: &[usize]| most.contains(&bare.len()) && bare.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    let is_time = humantime::parse_rfc3339(bare).is_ok();
    let is_span =
        bare.strip_suffix(['s', 'm', 'h']).is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()));
    match bare {
        _ if is_time => format!("TIME{rest}"),
        _ if is_span => format!("N{}{rest}", &bare[bare.len() - 1..]),
        _ if is_hex(&[12]) => format!("REVISION....{rest}"),
        _ if is_hex(&[16]) => format!("FINGERPRINT.....{rest}"),
        _ => word.to_owned(),
    }
}

/// A project in which something of every sort is to be done.
async fn world() -> World {
    let project = vec![
        "policy: sync".to_owned(),
        "firstContact: apply".to_owned(),
        "guards: { deleteAfter: 0s, maxDeletes: { default: 10, tenants: 0 } }".to_owned(),
    ];
    let top = vec!["log: { format: auto }".to_owned(), "rateLimit: { limit: 100/60s }".to_owned()];
    let world = World::with(Setup { project, top, ..Setup::default() }).await;
    world.write(
        "permissions.yaml",
        "permissions:\n  - { name: 'doc:read' }\n  - { name: 'doc:write' }\n  - { name: 'doc:old' }\n",
    );
    world.write(
        "roles.yaml",
        "roles:\n  - { name: Editor, description: Edits, permissionNames: ['doc:read', 'doc:old'] }\n",
    );
    world.write("tenants.yaml", "tenants:\n  - { id: acme, name: Acme }\n  - { id: gone, name: Gone }\n");
    world.write("fga.yaml", "fgaSchema: { file: fga.txt }\n");
    world.write("fga.txt", "model AuthZ 1.0\n\ntype user\n\ntype doc\n  relation owner: user\n");
    let output = world.run(&["apply", "--auto-approve"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    world.write(
        "permissions.yaml",
        "permissions:\n  - { name: 'doc:read', description: 'Reads | \"all\" <b>' }\n  - { name: 'doc:write' }\n",
    );
    world.write("roles.yaml", "roles:\n  - { name: Editor, description: Edits, permissionNames: ['doc:read', 'doc:write'] }\n  - { name: Viewer, permissionNames: ['doc:read'] }\n");
    world
        .write("tenants.yaml", "tenants:\n  - { id: acme, name: Acme Inc, selfProvisioningDomains: [acme.example] }\n");
    world.write(
        "fga.txt",
        "model AuthZ 1.0\n\ntype user\n\ntype doc\n  relation owner: user\n  relation reader: user\n",
    );
    world.edit_live("roles/Clicked", json!({ "description": "nobody declares it" })).await;
    world
}

async fn printed(world: &World, args: &[&str], code: i32) -> String {
    let output = world.run(args).await;
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn on_a_terminal(world: &World, args: &[&str], code: i32) -> String {
    let (ended, screen) = Terminal::start(&world.command(args), &[]).end().await;
    assert_eq!(ended, code, "{args:?}: {screen}");
    screen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_and_an_apply_read_well() {
    let world = world().await;

    compare(&world, "plan.txt", &printed(&world, &["plan"], 0).await);
    compare(&world, "plan.md", &printed(&world, &["plan", "-o", "markdown"], 0).await);
    compare(&world, "plan.colour.txt", &on_a_terminal(&world, &["plan"], 0).await);
    let mut terminal = Terminal::start(&world.command(&["apply"]), &[]);
    terminal.until("Apply this? [y/N]").await;
    let question = terminal.screen();
    terminal.type_in("n\n");
    assert_eq!(terminal.end().await.0, 4);
    compare(&world, "apply.question.colour.txt", &question);
    compare(&world, "apply.txt", &printed(&world, &["apply", "--auto-approve"], 4).await);
    compare(&world, "plan.left.txt", &printed(&world, &["plan"], 0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_reads_well() {
    let mut world = world().await;
    world.start().await;
    let is_held = async |world: &World| {
        let project = world.project().await;
        project["notConvergedBecause"] == "held" && project["counts"]["changing"] == 0
    };
    world.until("all done but what is held", is_held).await;
    let url = world.daemon_url().await;

    let masked_url = |text: String| text.replace(url.trim_start_matches("http://"), "127.0.0.1:PORT");
    let plain = masked_url(printed(&world, &["status", "--url", &url], 0).await);
    compare(&world, "status.txt", &without_counts(&plain));
    let colour = masked_url(on_a_terminal(&world, &["status", "--url", &url], 0).await);
    compare(&world, "status.colour.txt", &without_counts(&colour));
    compare(&world, "plan.url.txt", &printed(&world, &["plan", "--url", &url], 0).await);
}

/// How much of the budget is used depends on how often it looked.
fn without_counts(status: &str) -> String {
    let line = |line: &str| match (line.find(": "), line.find(" of 90 requests")) {
        (Some(from), Some(to)) if line.starts_with("budget of") => format!("{}: N{}", &line[..from], &line[to..]),
        _ => line.to_owned(),
    };
    status.split_inclusive('\n').map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_validate_and_export_say_reads_well() {
    let world = world().await;
    let out = world.path("out").display().to_string();
    compare(&world, "export.txt", &printed(&world, &["export", "--dir", &out, "--verify"], 0).await);
    compare(&world, "validate.valid.txt", &printed(&world, &["validate"], 0).await);
    world.write(
        "roles.yaml",
        "roles:\n  - { name: Editor, permisionNames: ['doc:read'] }\n  - { name: Editor }\n  - description: x\n",
    );
    world.write("tenants.yaml", "tenants:\n  - { id: acme, name: [Acme] }\n");

    compare(&world, "validate.txt", &printed(&world, &["validate"], 3).await);
    compare(&world, "validate.github.txt", &printed(&world, &["validate", "-o", "github"], 3).await);
}
