//! Names that eyes take for other ones, or that a terminal obeys: quoted and spelled out in every text, as they are in JSON.

use crate::harness::Setup;
use crate::harness::World;
use serde_json::json;

// An outer blank, an escape sequence, a turn of direction.
const ODD: [(&str, &str); 3] =
    [("Editor ", "roles/`Editor `"), ("a\u{1b}[2Jb", "roles/`a\\u{1b}[2Jb`"), ("c\u{2066}d", "roles/`c\\u{2066}d`")];

fn roles(names: &[&str]) -> String {
    let item = |name: &&str| format!("  - name: {}\n", json!(name));
    format!("roles:\n  - name: stays\n{}", names.iter().map(item).collect::<String>())
}

/// The table of status, what `apply` refuses and asks, and the audit trail showed them raw.
#[tokio::test]
async fn odd_names_are_quoted_in_every_text() {
    let guards = "guards: { deleteAfter: 0s, maxDeletes: 100, maxDeletePercent: 100 }";
    let project = ["firstContact: apply", "policy: sync", guards].map(str::to_owned).to_vec();
    let mut world = World::with(Setup { project, ..Setup::default() }).await;
    let names = ODD.map(|(name, _)| name);
    world.write("roles.yaml", &roles(&names));
    let check = |what: &str, output: &std::process::Output, is_expected: &dyn Fn(&str) -> bool| {
        let text = String::from_utf8_lossy(&output.stdout);
        for (_, shown) in ODD.iter().filter(|(name, _)| is_expected(name)) {
            assert!(text.contains(shown), "{what} lacks {shown}: {text}");
        }
        assert!(!text.contains(['\u{1b}', '\u{2066}']) && !text.contains("roles/Editor "), "{what}: {text}");
    };
    let every = |_: &str| true;
    check("plan", &world.run(&["plan"]).await, &every);
    check("markdown", &world.run(&["plan", "-o", "markdown"]).await, &|_| false);
    check("apply", &world.run(&["apply", "--auto-approve"]).await, &every);
    check("audit", &world.run(&["audit"]).await, &every);

    let refused = json!({ "errorCode": "E1", "errorMessage": "no" });
    let delete = json!({ "path": "/v1/mgmt/role/delete*" });
    world.faults(json!([{ "fault": "status", "status": 400, "body": refused, "match": delete }])).await;
    world.write("roles.yaml", &roles(&[]));
    world.start().await;
    for name in names {
        world.until("a problem", async |world| world.has_problem("roles", name, "parked").await).await;
    }
    let url = world.daemon_url().await;
    check("status", &world.run(&["status", "--url", &url]).await, &every);
    check("plan --url", &world.run(&["plan", "--url", &url]).await, &every);
    world.stop().await;
    check("apply, refused", &world.run(&["apply", "--auto-approve"]).await, &every);
}
