//! Drift against what a commit changed, field by field, and what the writes beside it carry.

use super::*;
use crate::plan::drift;
use crate::plan::drift::DriftRule;
use crate::plan::drift::Left;
use std::time::Duration;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;
const REPORT: DriftRule = DriftRule { heals: false, min_age: Duration::ZERO };
const HOUR: Duration = Duration::from_secs(3600);

/// What the files said when it was last in force, what they say, and what is live.
fn plan_under(
    rule: DriftRule,
    age: Duration,
    key: &Key,
    before: Option<&Value>,
    now: &Value,
    live: Option<&Value>,
) -> Plan {
    let desired = desired_of(vec![declared(key.clone(), now.clone())]);
    let mut world = World::default();
    if let Some(live) = live {
        world.live.insert(key.clone(), document(live.clone()));
    }
    let kind = resource::kind(key.kind).unwrap();
    let before: Option<Vec<(String, Value)>> = before.map(|before| {
        let before = document(before.clone());
        kind.spec().parts.iter().flat_map(|part| drift::declared_values(part, &before)).collect()
    });
    let applied = |_: &Key| -> Option<Applied> {
        let before = before.clone()?;
        Some(Box::new(move |path, value| before.iter().any(|(p, v)| p == path && v == value)))
    };
    let rules = DriftRules { default: rule, by_kind: BTreeMap::new() };
    Case::of(&desired, &world).with_inputs(&|_| true, |inputs| {
        diff(&Inputs { drift: &rules, applied: &applied, drifted_since: &|_, _| Some(NOW), now: NOW + age, ..*inputs })
    })
}

/// Each change with what holds it and the paths of its fields.
fn told(plan: &Plan) -> Vec<(Action, Option<Hold>, Vec<&'static str>)> {
    let told = |change| {
        let Change { action, held, fields, .. }: &Change = change;
        (*action, *held, fields.list().iter().map(|field| &*field.path.to_string().leak()).collect())
    };
    plan.changes.iter().map(told).collect()
}

fn body(plan: &Plan) -> Value {
    let bodies = plan.changes.iter().flat_map(|change| &change.tasks).filter_map(|task| task.write.body()?.read());
    Value::Object(bodies.flatten().collect())
}

const KEPT: Option<Hold> = Some(Hold::DriftReported(Left::Reported));

#[test]
fn a_commit_is_told_from_drift_field_by_field_and_carries_what_is_live() {
    let role = |description: &str, names: Value| json!({ "description": description, "permissionNames": names });
    let (ours, update) = (role("ours", json!(["p"])), Action::Update);
    let plan = |before: Option<&Value>, now: &Value, live: &Value| {
        let mut live = live.clone();
        live["name"] = json!("r");
        plan_under(REPORT, Duration::ZERO, &Key::new("roles", "r"), before, now, Some(&live))
    };
    let theirs = role("theirs", json!(["p"]));

    assert_eq!(told(&plan(Some(&ours), &ours, &ours)), []);
    assert_eq!(told(&plan(Some(&ours), &ours, &theirs)), [(update, KEPT, vec!["description"])]);
    assert_eq!(told(&plan(None, &ours, &theirs)), [(update, None, vec!["description"])], "never in force");
    let commit = plan(Some(&ours), &role("ours", json!(["q"])), &theirs);
    assert_eq!(told(&commit), [(update, KEPT, vec!["description"]), (update, None, vec!["permissionNames"])]);
    assert_eq!((&body(&commit)["description"], &body(&commit)["permissionNames"]), (&json!("theirs"), &json!(["q"])));
    let same = plan(Some(&ours), &role("newer", json!(["p"])), &theirs);
    assert_eq!(told(&same), [(update, None, vec!["description"])], "the files changed just that");
    let new_line = plan(Some(&json!({ "description": "ours" })), &ours, &role("ours", json!(["x"])));
    assert_eq!(told(&new_line), [(update, None, vec!["permissionNames"])], "the line is new");
    let order = plan(Some(&role("ours", json!(["p", "q"]))), &role("ours", json!(["q", "p"])), &theirs);
    assert_eq!(told(&order), [(update, KEPT, vec!["description", "permissionNames"])], "an order is no commit");
    let cleared = plan(Some(&role("", json!([]))), &role("", json!([])), &theirs);
    assert_eq!(told(&cleared), [(update, KEPT, vec!["description", "permissionNames"])], "empty was in force, too");
}

/// What is kept, what is sent, and what of the bodies.
fn check(key: &Key, why: &str, sides: [&Value; 3], kept: &[&str], sent: &[&str], expected: &Value) {
    let [before, now, live] = sides;
    let plan = plan_under(REPORT, Duration::ZERO, key, Some(before), now, Some(live));

    let paths = |held: Option<Hold>| -> BTreeSet<String> {
        let of = told(&plan).into_iter().filter(|(_, hold, _)| *hold == held);
        of.flat_map(|(.., paths)| paths).map(str::to_owned).collect()
    };
    let those = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
    assert_eq!((paths(KEPT), paths(None)), (those(kept), those(sent)), "{why}");
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(body(&plan).get(field), Some(value), "{why}");
    }
}

#[test]
fn an_item_is_told_apart_by_who_put_it_there_or_took_it_out() {
    let key = Key::new("userAttributes", "u");
    let attribute = |options: &[(&str, &str)]| {
        let option = |(value, label): &(&str, &str)| json!({ "value": value, "label": label });
        json!({ "name": "u", "displayName": "U", "type": "singleselect", "options": options.iter().map(option).collect::<Vec<_>>() })
    };
    let (m, n, new) = (("m", "old"), ("n", "old"), ("m", "new"));
    for (why, before, now, live, kept, sent, expected) in [
        ("somebody added one", &[m][..], &[m][..], &[m, n][..], &["options[n]"][..], &[][..], None),
        (
            "somebody added one beside a commit",
            &[m],
            &[new],
            &[m, n],
            &["options[n]"],
            &["options[m].label"],
            Some(&[new, n][..]),
        ),
        ("a commit took one out", &[m, n], &[m], &[m, n], &[], &["options[n]"], Some(&[m])),
        ("a commit added one", &[m], &[m, n], &[m], &[], &["options[n].label", "options[n].value"], Some(&[m, n])),
        ("somebody took one out", &[m, n], &[m, n], &[n], &["options[m].label", "options[m].value"], &[], None),
        (
            "somebody took one out to which a commit came, and to another",
            &[m, n],
            &[new, ("n", "new")],
            &[n],
            &["options[m].label", "options[m].value"],
            &["options[n].label"],
            Some(&[("n", "new")]),
        ),
        (
            "somebody changed one that another commit leaves alone",
            &[m],
            &[m, n],
            &[("m", "theirs")],
            &["options[m].label"],
            &["options[n].label", "options[n].value"],
            Some(&[("m", "theirs"), n]),
        ),
    ] {
        let sides = [attribute(before), attribute(now), attribute(live)];
        let body = expected.map_or_else(|| json!({}), |options| json!({ "options": attribute(options)["options"] }));
        check(&key, why, sides.each_ref(), kept, sent, &body);
    }
}

#[test]
fn entries_of_maps_are_told_apart_and_those_of_others_stay() {
    let key = Key::new("tenants", "a");
    let tenant = |fields: Value| {
        let mut tenant = json!({ "id": "a", "name": "A" });
        tenant.as_object_mut().unwrap().extend(document(fields));
        tenant
    };
    for (why, before, now, live, kept, sent, expected) in [
        (
            "an entry",
            json!({ "customAttributes": { "plan": "gold", "seats": 5 } }),
            json!({ "customAttributes": { "plan": "gold", "seats": 6 } }),
            json!({ "customAttributes": { "plan": "lead", "seats": 5, "other": 1 } }),
            vec!["customAttributes.plan"],
            vec!["customAttributes.seats"],
            json!({ "customAttributes": { "plan": "lead", "seats": 6, "other": 1 } }),
        ),
        (
            "an entry that somebody took out",
            json!({ "customAttributes": { "plan": "gold", "seats": 5 } }),
            json!({ "customAttributes": { "plan": "gold", "seats": 6 } }),
            json!({ "customAttributes": { "seats": 5 } }),
            vec!["customAttributes.plan"],
            vec!["customAttributes.seats"],
            json!({ "customAttributes": { "seats": 6 } }),
        ),
    ] {
        check(&key, why, [&tenant(before), &tenant(now), &tenant(live)], &kept, &sent, &expected);
    }
}

/// A line that is emptied has no value in the files, as has an item that they do not name.
#[test]
fn a_commit_that_empties_a_line_of_an_item_is_told_from_somebody_who_filled_it() {
    let key = Key::new("userAttributes", "u");
    let attribute = |label: Option<&str>| {
        let options = json!([{ "value": "m", "label": label }]);
        json!({ "name": "u", "displayName": "U", "type": "singleselect", "options": options })
    };
    let label = "options[m].label";
    for (why, before, live, kept, sent, expected) in [
        (
            "a commit emptied it",
            Some("old"),
            "old",
            vec![],
            vec![label],
            json!({ "options": attribute(Some(""))["options"] }),
        ),
        ("somebody filled it", None, "theirs", vec![label], vec![], json!({})),
    ] {
        check(&key, why, [&attribute(before), &attribute(None), &attribute(Some(live))], &kept, &sent, &expected);
    }
}

#[test]
fn a_list_inside_of_an_item_is_told_apart_by_itself_and_what_is_beside_it_as_well() {
    let key = Key::new("tenants", "a");
    let tenant = |url: &str, roles: &[&str], mapping: Option<&str>| {
        let roles: Vec<_> = roles.iter().map(|role| json!({ "roleName": role, "groups": ["g"] })).collect();
        let mut saml = json!({ "idpUrl": url, "disableSignRequest": false, "roleMappings": roles });
        if let Some(email) = mapping {
            saml["attributeMapping"] = json!({ "email": email });
        }
        json!({ "id": "a", "name": "A", "sso": [{ "ssoId": "s", "saml": saml }] })
    };
    let (url, email) = ("sso[s].saml.idpUrl", "sso[s].saml.attributeMapping.email");
    let (b, c) = ("sso[s].saml.roleMappings[b]", "sso[s].saml.roleMappings[c]");
    for (why, before, now, live, kept, sent, expected) in [
        (
            "a commit took one out, and somebody added one and changed what is beside them",
            tenant("ours", &["a", "b"], None),
            tenant("ours", &["a"], None),
            tenant("theirs", &["a", "b", "c"], None),
            vec![url, c],
            vec![b],
            tenant("theirs", &["a", "c"], None),
        ),
        (
            "somebody took out all that is inside of another one",
            tenant("ours", &["a"], Some("mail")),
            tenant("new", &["a"], Some("mail")),
            tenant("ours", &["a"], None),
            vec![email],
            vec![url],
            tenant("new", &["a"], None),
        ),
    ] {
        check(&key, why, [&before, &now, &live], &kept, &sent, &json!({ "sso": expected["sso"] }));
    }
}

#[test]
fn what_somebody_deleted_is_drift_as_a_whole_whatever_a_commit_changes_of_it() {
    let (key, role) = (Key::new("roles", "r"), |text: &str| json!({ "description": text }));
    let plan = |before, now: &str| plan_under(REPORT, Duration::ZERO, &key, before, &role(now), None);

    let ours = role("ours");
    let held = plan(Some(&ours), "newer");
    assert_eq!((held.changes[0].action, held.changes[0].held), (Action::Create, KEPT));
    assert_eq!(plan(None, "ours").changes[0].held, None, "it never was there");
}

#[test]
fn what_is_young_waits_for_its_age_and_what_is_old_enough_goes_with_a_commit() {
    let key = Key::new("roles", "r");
    let (ours, theirs) = (json!({ "description": "ours" }), json!({ "name": "r", "description": "theirs" }));
    let rule = DriftRule { heals: true, min_age: HOUR };
    let young = HOUR.checked_sub(Duration::from_secs(1)).unwrap();

    let waits = plan_under(rule, young, &key, Some(&ours), &ours, Some(&theirs));
    assert_eq!(waits.changes[0].held, Some(Hold::DriftReported(Left::Young)));
    assert_eq!(waits.changes[0].until, Some(NOW + HOUR));
    let goes = plan_under(rule, HOUR, &key, Some(&ours), &ours, Some(&theirs));
    assert_eq!(goes.changes[0].held, None);
    assert_eq!(goes.changes[0].drift.as_ref().unwrap().fields, ["description".to_owned()].into());
    assert_eq!(body(&goes)["description"], "ours");
}

/// The line named the time of a resource that was put back since.
#[test]
fn drift_that_is_left_waits_since_the_oldest_of_it_was_seen() {
    let key = Key::new("roles", "r");
    let (ours, theirs) = (json!({ "description": "ours" }), json!({ "name": "r", "description": "theirs" }));
    let mut plan = plan_under(REPORT, Duration::from_secs(84), &key, Some(&ours), &ours, Some(&theirs));
    let at = |seconds| NOW + Duration::from_secs(seconds);
    let since = |plan: &Plan| crate::plan::render::holds(plan)[0].since.clone();
    let told = |seconds| Some(crate::telemetry::status::rfc3339(at(seconds)));

    plan.held_since.insert("drift_reported".to_owned(), at(10));
    plan.changes[0].drift.as_mut().unwrap().since = at(20);
    assert_eq!(since(&plan), told(20));
    let mut older = plan.changes[0].clone();
    older.drift.as_mut().unwrap().since = at(15);
    plan.changes.push(older);
    assert_eq!(since(&plan), told(15));
    // Where that of one is not known.
    plan.changes[0].drift = None;
    assert_eq!(since(&plan), told(10));
}

#[test]
fn an_approval_does_not_put_drift_back_and_guards_do_not_count_it() {
    let key = Key::new("roles", "r");
    let (ours, theirs) = (json!({ "description": "ours" }), json!({ "name": "r", "description": "theirs" }));
    let mut plan = plan_under(REPORT, Duration::ZERO, &key, Some(&ours), &ours, Some(&theirs));

    plan.release(|_| true);

    assert_eq!(plan.changes[0].held, KEPT);
    assert!(plan.approvable().is_empty());
    assert_eq!(plan.forecast_requests(), 0);
}
