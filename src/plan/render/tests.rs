//! What people read of a plan, to the letter.

use super::*;
use crate::telemetry::status::Why;
use serde_json::json;

fn report(changes: &Value) -> Report<'static> {
    serde_json::from_value(json!({ "formatVersion": 1, "projects": [{
        "name": "production", "fingerprint": "f00d", "warnings": ["look <b>here</b>"], "changes": changes,
        "held": { "fingerprint": "f00d", "reason": "max_deletes", "changes": 1, "deletes": 1 },
        "holds": [{ "reason": "max_deletes", "since": null, "approvable": true, "until": null, "changes": 1, "endsWith": "approval" }],
        "refused": [{ "kind": "roles", "id": "X", "message": "no such permission", "file": "r.yaml", "line": 9 }],
        "undeclared": [{ "kind": "roles", "id": "Y" }], "forecast": { "requests": 4, "reads": 2, "seconds": 60 },
    }] }))
    .unwrap()
}

fn changes() -> Value {
    json!([
        { "kind": "permissions", "id": "p", "action": "create", "held": null, "file": "p.yaml", "line": 2,
          "fields": [{ "path": "description", "from": null, "to": "new" }] },
        { "kind": "roles", "id": "Editor", "action": "update", "held": null, "file": "r.yaml", "line": 3, "fields": [
            { "path": "permissionNames", "from": ["a", "b"], "to": ["b", "c|d"] },
            { "path": "description", "from": "one\ntwo\nthree", "to": "one\n2\nthree" },
            { "path": "default", "from": false, "to": true },
        ] },
        { "kind": "tenants", "id": "acme", "action": "delete", "held": "max_deletes", "file": null, "line": null, "fields": [] },
        { "kind": "roles", "id": "Old", "action": "delete", "held": null, "file": null, "line": null, "fields": [] },
    ])
}

const PLAIN: &str = "\
project production
  ! look <b>here</b>
  x roles/X: no such permission   r.yaml:9
  permissions: 1 to create
    + permissions/p   p.yaml:2
        description: \"new\"
  roles: 1 to update
    ~ roles/Editor   r.yaml:3
        permissionNames:
          - \"a\"
          + \"c|d\"
        description:
            one
          - two
          + 2
            three
        default: false -> true
  DELETES: 2, each with whatever hangs on it
    - tenants/acme   held: max_deletes; ends with approval
    - roles/Old
  1 live and declared nowhere, left alone: roles/Y
  1 to create, 1 to update, 0 to rename, 2 to delete; 4 write and 2 read requests, about 60 s
  1 held by max_deletes; ends with approval
  1 change (1 delete) is held (max_deletes); to release it: `descope-gitops approve f00d` beside a daemon, `descope-gitops apply --approve f00d` without one
";

#[test]
fn a_plan_is_readable_at_a_glance() {
    assert_eq!(text(&report(&changes()), Style::default()), PLAIN);
}

#[test]
fn colours_change_nothing_but_the_looks() {
    let colored = text(&report(&changes()), Style { color: true });

    let mut plain = String::new();
    let mut rest = colored.as_str();
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    plain.push_str(rest);
    assert_eq!(plain, PLAIN);
    for part in ["\u{1b}[32m+ permissions/p\u{1b}[0m", "\u{1b}[1;31m- roles/Old\u{1b}[0m", "\u{1b}[31m- \"a\"\u{1b}[0m"]
    {
        assert!(colored.contains(part), "{part}: {colored}");
    }
}

#[test]
fn nothing_from_outside_moves_the_cursor() {
    let evil = json!([{ "kind": "roles", "id": "a\u{1b}[2J\n- roles/b", "action": "update", "held": null, "file": "x\ny", "line": 1,
        "fields": [{ "path": "d", "from": "a\n\u{1b}[0m", "to": ["\u{202e}x"] }] }]);

    let text = text(&report(&evil), Style::default());

    assert!(!text.contains(['\u{1b}', '\u{202e}']) && !text.contains("\n- roles/b"), "{text}");
}

#[test]
fn a_long_text_is_cut_and_says_so() {
    let old = (0..200).map(|n| format!("old {n}\n")).collect::<Vec<_>>().concat();
    let new = (0..200).map(|n| format!("new {n}\n")).collect::<Vec<_>>().concat();
    let change = json!([{ "kind": "roles", "id": "a", "action": "update", "held": null, "file": "x", "line": 1,
        "fields": [{ "path": "d", "from": old, "to": new }] }]);

    let text = text(&report(&change), Style::default());

    assert!(text.contains("          - old 0\n") && text.contains("          ... 340 more lines\n"), "{text}");
}

#[test]
fn a_comment_has_a_row_for_each_resource_and_no_markup_of_others() {
    let found = markdown(&report(&changes()));

    let expected = "\
### production

1 to create, 1 to update, 0 to rename, 2 to delete; 4 write and 2 read requests, about 60 s

> **roles/X** cannot be carried out: no such permission (r.yaml:9)

> look &#60;b&#62;here&#60;/b&#62;

| | resource | what | where |
| --- | --- | --- | --- |
| create | <code>permissions/p</code> | description: <code>&#34;new&#34;</code> | p.yaml:2 |
| update | <code>roles/Editor</code> | permissionNames: −<code>&#34;a&#34;</code> +<code>&#34;c&#124;d&#34;</code><br>description: <code>&#34;one&#92;ntwo&#92;nthree&#34;</code> → <code>&#34;one&#92;n2&#92;nthree&#34;</code><br>default: <code>false</code> → <code>true</code> | r.yaml:3 |

**Deletes: 2, each with whatever hangs on it**

| | resource | what | where |
| --- | --- | --- | --- |
| **delete** | <code>tenants/acme</code> | **held: max&#95;deletes** |  |
| **delete** | <code>roles/Old</code> |  |  |

- 1 held by max_deletes; ends with approval

1 change (1 delete) is held (max_deletes); to release it: `descope-gitops approve f00d` beside a daemon, `descope-gitops apply --approve f00d` without one

";
    assert_eq!(found, expected);
}

#[test]
fn a_comment_folds_what_is_long_and_never_grows_beyond_what_a_comment_holds() {
    let update = |n: usize| {
        json!({ "kind": "roles", "id": format!("r{n}"), "action": "update", "held": null, "file": "r.yaml", "line": n,
            "fields": [{ "path": "description", "from": "x".repeat(200), "to": "y".repeat(200) }] })
    };
    let mut changes: Vec<Value> = (0..2000).map(update).collect();
    changes.push(json!({ "kind": "tenants", "id": "last", "action": "delete", "held": null, "file": null, "line": null, "fields": [] }));

    let found = markdown(&report(&json!(changes)));

    assert!(found.chars().count() < 65_536, "{}", found.chars().count());
    assert!(found.contains("<details><summary>roles: 2000 to update</summary>\n\n| |"), "{found}");
    assert!(found.contains("<code>tenants/last</code>"), "what deletes is always shown");
    assert!(found.contains(" of 2001 changes are not shown**"), "it says what was cut");
}

#[test]
fn a_wait_says_why_since_when_and_until_when() {
    let times = |since: Option<&str>, until: Option<&str>| {
        let (since, until) = (since.map(str::to_owned), until.map(str::to_owned));
        wait_text(&Wait {
            kind: "roles".to_owned(),
            id: "a".to_owned(),
            why: "retrying: no answer".to_owned(),
            since,
            until,
        })
    };

    assert_eq!(times(None, None), "retrying: no answer");
    assert_eq!(times(Some("noon"), None), "retrying: no answer; since noon");
    assert_eq!(times(Some("noon"), Some("one")), "retrying: no answer; since noon; until one");
}

#[test]
fn what_fits_into_a_line_is_one_and_what_does_not_is_compared_line_by_line() {
    let words = |last: &str| json!({ "a": "x".repeat(60), "b": "y".repeat(60), "c": last });
    let change = json!([{ "kind": "roles", "id": "a", "action": "update", "held": null, "file": "x", "line": 1, "fields": [
        { "path": "short", "from": { "a": 1 }, "to": { "a": 2 } },
        { "path": "long", "from": words("old"), "to": words("new") },
    ] }]);

    let text = text(&report(&change), Style::default());

    assert!(text.contains("        short: {\"a\":1} -> {\"a\":2}\n        long:\n"), "{text}");
    assert!(text.contains("          -   \"c\": \"old\"\n          +   \"c\": \"new\"\n"), "{text}");
}

/// A plan's own changes are rendered while they are written: what is written is as of a report that holds all of them.
#[test]
fn a_plan_is_told_like_the_report_that_a_daemon_sends() {
    let change = |kind: &'static str, name: &str, action, held| {
        let field = FieldChange { path: "description".into(), from: Value::Null, to: json!(name) };
        Change { held, fields: vec![field].into(), ..Change::new(Key::new(kind, name), action) }
    };
    let mut changes: Vec<Change> = (0..20).map(|n| change("roles", &format!("r{n}"), Action::Create, None)).collect();
    changes.push(change("permissions", "p", Action::Update, Some(Hold::Policy)));
    changes.push(change("roles", "old", Action::Delete, Some(Hold::MaxDeletes)));
    let refusal = Refusal { key: Key::new("roles", "no"), message: "is refused".to_owned(), place: None };
    let waits = vec![
        (Key::new("tenants", "t"), Why::Dependency, "roles/r1 is not there yet".to_owned()),
        (Key::new("roles", "r2"), Why::Dependency, "is said with the change".to_owned()),
    ];
    let warnings = vec!["mind the gap".to_owned()];
    let plan = Plan { changes, refused: vec![refusal], waits, warnings, ..Plan::default() };
    let told = Report::new(vec![ProjectReport::told("x", &plan, Pace::Free)]);

    let json = serde_json::to_string_pretty(&told).unwrap();

    let sent: Report<'_> = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string_pretty(&sent).unwrap(), json);
    let style = Style::default();
    assert_eq!((text(&told, style), markdown(&told)), (text(&sent, style), markdown(&sent)));
    assert!(text(&told, style).contains("waits: tenants/t") && !text(&told, style).contains("waits: roles/r2"));
}

#[test]
fn how_long_it_takes_at_the_limit_is_rounded_up() {
    for (pace, requests, seconds) in [
        (Pace::Free, 1000, 0),
        (Pace::Rate(2.0), 5, 3),
        (Pace::Rate(2.0), 0, 0),
        (Pace::Window(100.0, 60.0), 0, 0),
        (Pace::Window(100.0, 60.0), 100, 0),
        (Pace::Window(100.0, 60.0), 101, 60),
        (Pace::Window(100.0, 60.0), 250, 120),
        (Pace::Window(0.0, 60.0), 2, 60),
    ] {
        assert_eq!(pace.seconds(requests), seconds, "{requests} at {pace:?}");
    }
}

/// A weakening stood in a note above and in its row.
#[test]
fn what_stands_in_the_row_of_a_change_is_no_note_above_and_each_row_has_its_own_end() {
    let drift = |id: &str, why: &str, end: Option<&str>| json!({ "kind": "roles", "id": id, "action": "update", "held": "drift_reported", "why": why, "endsWith": end, "file": "r.yaml", "line": 3, "fields": [] });
    let report: Report<'_> = serde_json::from_value(json!({ "formatVersion": 1, "projects": [{
        "name": "p", "fingerprint": "", "warnings": ["r.yaml:3: roles/A is said", "roles/A is said", "passwordSettings goes down"], "held": null,
        "changes": [drift("A", "is said", None), drift("B", "too", Some("time")), { "kind": "passwordSettings", "id": "passwordSettings", "action": "update", "held": "weakening", "why": "goes down", "file": null, "line": null, "fields": [] }],
        "holds": [{ "reason": "drift_reported", "since": null, "approvable": false, "until": null, "changes": 2, "endsWith": "files" }],
        "refused": [], "undeclared": [], "forecast": { "requests": 0, "reads": 0, "seconds": 0 },
    }] }))
    .unwrap();

    let text = text(&report, Style::default());

    let notes: Vec<&str> = text.lines().filter(|line| line.starts_with("  !")).collect();
    assert_eq!(notes, ["  ! roles/A is said"], "it names another place, or none: {text}");
    let remarks = markdown(&report);
    let remarks: Vec<&str> = remarks.lines().filter(|line| line.starts_with("> ")).collect();
    assert_eq!(remarks, ["> roles/A is said"]);
    assert!(text.contains("~ roles/A   held: drift_reported (is said); ends with files"), "{text}");
    assert!(text.contains("~ roles/B   held: drift_reported (too); ends with time"), "{text}");
}
