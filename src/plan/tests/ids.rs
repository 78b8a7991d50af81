//! What Descope knows by ids of its own: a name leads to one, and of two the id tells which is meant.

use super::*;

fn list(name: &str) -> Key {
    Key::new("lists", name)
}

/// What lives, by name and id.
fn lists(live: &[(&str, &str)]) -> Observed {
    let mut observed = World::default().observed();
    let document = |(name, id): &(&str, &str)| document(json!({ "name": name, "id": id, "type": "texts" }));
    observed.kinds.insert("lists", Ok(Documents::of_kind(resource::kind("lists").unwrap(), live.iter().map(document))));
    observed
}

/// Declared with or without an id, found so, and known to the state so.
fn plan(wanted: &[(&str, Value)], found: &[(&str, &str)], known: &[(&str, &str)]) -> Plan {
    let fields =
        |id: &Value| if id.is_null() { json!({ "type": "texts" }) } else { json!({ "type": "texts", "id": id }) };
    let desired = desired_of(wanted.iter().map(|(name, id)| declared(list(name), fields(id))).collect());
    let ids: HashMap<Key, Arc<str>> = known.iter().map(|(name, id)| (list(name), (*id).into())).collect();
    let owned = ids.keys().map(|key| (key.clone(), Ownership::default())).collect();
    let is_approved = &|_: &str| true;
    let observed = lists(found);
    let world = World::default();
    Case { observed, ids, owned, policy: Policy::Sync, is_approved, ..Case::of(&desired, &world) }.plan()
}

fn changes(plan: &Plan) -> Vec<String> {
    let told = |change: &Change| {
        let id = change.tasks[0].id.as_deref().unwrap_or_default();
        format!("{} {} {id}", change.action.as_str(), change.key)
    };
    plan.changes.iter().map(told).collect()
}

fn refusals(plan: &Plan) -> Vec<&str> {
    plan.refused.iter().map(|refusal| refusal.message.as_str()).collect()
}

#[test]
fn two_of_one_name_are_an_error_until_the_yaml_says_which() {
    let both = [("a", "L1"), ("a", "L2")];

    assert_eq!(
        refusals(&plan(&[("a", Value::Null)], &both, &[("a", "L2")])),
        [
            "more than one has this name in Descope (`L1`, `L2`; this daemon made or adopted `L2`); write `id: ID` of the \
             one that is meant"
        ]
    );
    let told = plan(&[("a", json!("L1"))], &both, &[]);
    assert_eq!((refusals(&told), changes(&told)), (vec![], vec![]));
    assert_eq!(told.ids, [(list("a"), "L1".into())].into());
}

/// Another one that bore the name would have been changed.
#[test]
fn an_id_that_nobody_has_is_refused_and_never_the_next_best_changed() {
    let other = plan(&[("a", json!("L1"))], &[("a", "L2"), ("b", "L1")], &[]);
    let none = plan(&[("a", json!("L1"))], &[], &[]);

    assert_eq!(
        refusals(&other),
        ["id: the one of this name has the id `L2` in Descope, and not `L1`; write that one, or take the line out"]
    );
    assert_eq!(
        refusals(&none),
        ["id: none in Descope has the id `L1`, and nobody can choose one; take the line out to have lists/a created"]
    );
    assert_eq!((changes(&other), changes(&none)), (vec![], vec![]));
}

/// There were two of it then.
#[test]
fn what_somebody_else_renamed_gets_its_name_back() {
    let wanted = [("a", Value::Null)];

    assert_eq!(changes(&plan(&wanted, &[("b", "L1")], &[("a", "L1")])), ["rename lists/a L1"]);
    assert_eq!(changes(&plan(&[("a", json!("L1"))], &[("b", "L1")], &[])), ["rename lists/a L1"]);
    // Nobody knows the id, it is declared under its new name as well, or something else has the name by now.
    assert_eq!(changes(&plan(&wanted, &[("b", "L1")], &[])), ["create lists/a "]);
    let both = [("a", Value::Null), ("b", Value::Null)];
    assert_eq!(changes(&plan(&both, &[("b", "L1")], &[("a", "L1")])), ["create lists/a "]);
    assert_eq!(changes(&plan(&wanted, &[("a", "L2"), ("b", "L1")], &[("a", "L1")])), [""; 0]);
}

#[test]
fn of_two_that_bear_the_name_of_what_left_the_files_ours_is_deleted() {
    let plan = |found: &[(&str, &str)]| plan(&[("stays", Value::Null)], found, &[("a", "L2"), ("stays", "L9")]);

    assert_eq!(changes(&plan(&[("stays", "L9"), ("a", "L1"), ("a", "L2")])), ["delete lists/a L2"]);
    assert_eq!(changes(&plan(&[("stays", "L9"), ("a", "L2"), ("a", "L1")])), ["delete lists/a L2"]);
    let of_another = plan(&[("stays", "L9"), ("a", "L1")]);
    assert_eq!((changes(&of_another), of_another.undeclared), (vec![], vec![list("a")]));
}
