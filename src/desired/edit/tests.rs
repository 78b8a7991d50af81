//! Text in, text out.

use super::*;
use crate::descope::script::document;
use crate::resource;
use serde_json::json;

/// What becomes of a file of tenants; `live` by id. Who is not in it is gone.
fn edited(text: &str, live: &[Value]) -> String {
    let live: Vec<Document> = live.iter().cloned().map(document).collect();
    let look = |_: &'static dyn Kind, key: &Key, _: Option<&str>| {
        let found = live.iter().find(|live| live["id"] == *key.name);
        found.map_or(Lives::No, Lives::As)
    };
    let edited = edit(text, resource::ALL, &look);
    assert_eq!(edited.obstacles, []);
    edited.text
}

const FILE: &str = "\
tenants:
  - id: a # the first
    name: A
    customAttributes:
      tiers: [y, 'x'] # in no order
      seats: 10
  # the second
  - id: b
    name: B
";

#[test]
fn a_file_that_says_what_lives_stays_as_it_is() {
    let attributes = json!({ "tiers": ["x", "y"], "seats": 10.0 });
    let live = [json!({ "id": "a", "name": "A", "customAttributes": attributes }), json!({ "id": "b", "name": "B" })];

    assert_eq!(edited(FILE, &live), FILE);
}

#[test]
fn what_differs_is_written_over_and_nothing_beside_it() {
    let attributes = json!({ "tiers": ["x", "y"], "seats": 11 });
    let live =
        [json!({ "id": "a", "name": "Acme", "customAttributes": attributes }), json!({ "id": "b", "name": "B" })];

    assert_eq!(edited(FILE, &live), FILE.replace("name: A\n", "name: Acme\n").replace("seats: 10", "seats: 11"));
}

#[test]
fn what_is_gone_goes_with_its_own_lines() {
    let text = "tenants:\n  - id: a\n    name: A\n  - id: b\n    name: B\n  - id: c\n    name: C\n";
    let (a, b, c) =
        (json!({ "id": "a", "name": "A" }), json!({ "id": "b", "name": "B" }), json!({ "id": "c", "name": "C" }));

    assert_eq!(edited(text, &[a, c]), text.replace("  - id: b\n    name: B\n", ""));
    assert_eq!(edited(text, &[b]), "tenants:\n  - id: b\n    name: B\n");
    assert_eq!(edited(text, &[]), "tenants: []\n");
}

#[test]
fn a_list_in_lines_is_written_over_from_its_first_dash() {
    let text = "tenants:\n  - id: a\n    name: A\n    customAttributes:\n      tiers:\n        - x\n        - y\n      seats: 1\n";
    let live = json!({ "id": "a", "name": "A", "customAttributes": { "tiers": ["x", "z"], "seats": 1 } });

    assert_eq!(edited(text, &[live]), text.replace("- y\n", "- z\n"));
}

#[test]
fn of_a_set_in_lines_what_stays_keeps_its_line_and_what_is_new_comes_last() {
    let text = "tenants:\n  - id: a\n    name: A\n    selfProvisioningDomains:\n      - gone.example\n      - b.example # ours\n";
    let with = |domains: Value| json!({ "id": "a", "name": "A", "selfProvisioningDomains": domains });
    let line = "      - b.example # ours\n";

    let gone = text.replace("      - gone.example\n", "");
    assert_eq!(edited(text, &[with(json!(["b.example"]))]), gone);
    let new = gone.replace(line, &format!("{line}      - a.example\n      - c.example\n"));
    assert_eq!(edited(text, &[with(json!(["c.example", "a.example", "b.example"]))]), new);
}

/// The first field of an item stands behind the dash.
#[test]
fn a_text_is_written_over_without_the_dash_before_it_and_in_its_quotes_where_they_can_hold_it() {
    for (written, live, expected) in [
        ("A", "B", "B"),
        ("'A'", "B", "'B'"),
        ("'A'", "it's", "'it''s'"),
        ("'A'", "two\nlines", "\"two\\nlines\""),
        ("'A'", "a\u{202e}b", "\"a\\u202eb\""),
        ("\"A\"", "B", "\"B\""),
    ] {
        let file = |name: &str| format!("tenants:\n  - name: {name}\n    id: a\n");

        assert_eq!(edited(&file(written), &[json!({ "id": "a", "name": live })]), file(expected), "{live:?}");
    }
}

#[test]
fn of_items_with_a_name_each_is_written_over_by_itself_and_a_new_one_is_left_to_somebody() {
    let text = "inboundApps:\n  - name: App\n    permissionsScopes:\n      - name: read\n        description: Reads # all\n      \
                - name: write\n";
    let read = json!({ "name": "read", "description": "Reads it" });
    let known = json!({ "name": "App", "permissionsScopes": [{ "name": "write" }, read] });
    let more = json!({ "name": "App", "permissionsScopes": [{ "name": "write" }, read, { "name": "new" }] });
    let edited = |live: Value| {
        let live = document(live);
        edit(text, resource::ALL, &|_, _, _| Lives::As(&live))
    };

    let (known, more) = (edited(known), edited(more));

    assert_eq!((known.text.as_str(), known.obstacles.len()), (&*text.replace("Reads #", "Reads it #"), 0));
    assert_eq!(more.text, known.text);
    let found: Vec<_> = more.obstacles.iter().map(|found| (found.line, &*found.path, found.why)).collect();
    assert_eq!(found, [(4, "permissionsScopes", "an item came to it in Descope; add it by hand")]);
}
