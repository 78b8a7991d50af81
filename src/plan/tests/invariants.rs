//! What a plan never does, whatever it is made of: the rules of the guards, over everything that it lets go ahead.

use super::inputs::Drawn;
use super::inputs::drawn;
use super::oracle::Approved;
use super::oracle::Name;
use super::oracle::has_rename;
use super::oracle::named;
use super::*;
use crate::resource::fold;
use crate::resource::spec::Need;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestCaseError;
use proptest::test_runner::TestRunner;

type Checked = Result<(), TestCaseError>;

fn released(plan: &Plan) -> impl Iterator<Item = &Change> {
    plan.changes.iter().filter(|change| change.held.is_none())
}

fn plan_with(drawn: &Drawn, digests: &BTreeSet<String>) -> Plan {
    drawn.plan(&|digest| digests.contains(digest))
}

/// A part of it may have to wait for something else that is held, and is then a change of its own.
fn names(change: &Change) -> Vec<Name> {
    let of_part = |task: &Task| (change.key.clone(), change.action, Some(task.slot.part));
    change.tasks.iter().map(of_part).chain([named(change)]).collect()
}

/// The held changes that the operator approves, and the digests that say so.
fn approve(drawn: &Drawn, plan: &Plan) -> (Approved, BTreeSet<String>) {
    let chosen = plan.held().enumerate().filter(|(n, _)| drawn.approved >> (n % 64) & 1 == 1).map(|(_, change)| change);
    let (names, digests): (Vec<_>, _) = chosen.map(|change| (names(change), change.digest.to_string())).unzip();
    (names.into_iter().flatten().collect(), digests)
}

/// What no approval releases: each delete is of something that is owned, due, and nobody else's business.
fn deletes_only_what_it_may(drawn: &Drawn, plan: &Plan) -> Checked {
    for change in released(plan) {
        let key = &change.key;
        prop_assert!(drawn.permits(change), "{:?} forbids to {:?} {key}", drawn.policy, change.action);
        if change.action != Action::Delete {
            prop_assert!(drawn.is_declared(key), "{key} is not declared");
            continue;
        }
        prop_assert!(drawn.is_deletable(key), "{key} is deleted");
        prop_assert!(drawn.due.contains(key), "{key} is deleted too early");
        let [task] = &*change.tasks else { return Err(TestCaseError::fail("one call deletes")) };
        prop_assert_eq!(&task.write, &Write::Delete { cascade: drawn.owned[key].cascade_delete });
        takes_nothing_from_ours(drawn, plan, key)?;
    }
    Ok(())
}

/// What is declared to need it keeps it, and what is ours lets go, or goes, before.
fn takes_nothing_from_ours(drawn: &Drawn, plan: &Plan, gone: &Key) -> Checked {
    for change in plan.changes.iter().filter(|change| change.key != *gone) {
        let is_ours = |slot: &&Slot| slot.key == change.key && slot.part == resource::MAIN;
        let is_with_it = change.action == Action::Delete && drawn.deleted_with(gone).contains(&change.key);
        prop_assert!(!is_with_it || change.held.is_none(), "{gone} goes before {}", change.key);
        let task = plan.changes.iter().find(|other| other.key == *gone).and_then(|other| other.tasks.first());
        let is_after = task.is_some_and(|task| task.after.iter().any(|slot| is_ours(&slot)));
        // Of two that name one another, what lives in the other goes first.
        let is_home = gone.home().as_ref() == Some(&change.key);
        prop_assert!(!is_with_it || is_after || is_home, "{gone} does not wait for {}", change.key);
    }
    Ok(())
}

/// What goes ahead without an approval stays within every guard.
fn exceeds_no_guard(drawn: &Drawn, plan: &Plan, approved: &Approved) -> Checked {
    let free = || released(plan).filter(|change| !approved.contains(&named(change)));
    prop_assert!(!drawn.is_held_whole() || free().next().is_none(), "the first contact is held whole");
    for kind in resource::ALL.iter().map(|kind| kind.name()) {
        let count = |actions: &[Action]| {
            free().filter(|change| change.key.kind == kind && actions.contains(&change.action)).count()
        };
        let is_update =
            |change: &&Change| change.key.kind == kind && matches!(change.action, Action::Update | Action::Rename);
        let updates = free().filter(is_update).map(|change| &change.key).collect::<BTreeSet<_>>().len();
        let deletes = count(&[Action::Delete]);
        if deletes > 0 {
            prop_assert_eq!(drawn.against_deletes(kind, deletes), [], "{} deletes of {}", deletes, kind);
            let is_replaced = |change: &Change| drawn.owned.get(&change.key).is_some_and(|owned| owned.replaced);
            let may_be_one =
                has_rename(kind) && free().any(|c| c.key.kind == kind && c.action == Action::Delete && is_replaced(c));
            prop_assert!(!may_be_one, "a delete of {kind} may be half a rename");
        }
        prop_assert!(!drawn.are_too_many_updates(kind, updates), "{updates} updates of {kind}");
        let is_first = |change: &&Change| change.key.kind == kind && drawn.is_first_contact(change, plan);
        prop_assert!(!free().any(|change| is_first(&change)), "something of {kind} is changed at the first contact");
        let is_touched = deletes + updates + count(&[Action::Create]) > 0;
        prop_assert!(!is_touched || !drawn.is_shrunk(kind), "{kind} is changed though its list shrank");
    }
    Ok(())
}

/// Each change waits for a reason that there is, and none without one.
fn holds_for_a_reason(drawn: &Drawn, plan: &Plan, approved: &Approved) -> Checked {
    let is_made = |change: &&Change| matches!(change.action, Action::Create | Action::Rename);
    let missing: BTreeMap<&Key, Hold> =
        plan.changes.iter().filter(is_made).filter_map(|change| Some((&change.key, change.held?))).collect();
    let waiting = plan.changes.iter().filter(|change| change.held.is_some()).flat_map(|change| &change.tasks);
    let waiting: BTreeSet<&Slot> = waiting.map(|task| &task.slot).collect();
    for change in &plan.changes {
        let mut reasons = drawn.reasons(change, plan, approved);
        if approved.contains(&named(change)) {
            // What another kind's list lacks was not approved with it.
            let lacks = Hold::ObservationShrank;
            let is_along = change.action == Action::Delete && drawn.is_doubted(&change.key, plan, approved);
            reasons.retain(|reason| !reason.can_be_approved() || is_along && *reason == lacks);
        }
        if change.action == Action::Delete {
            // What refers to it and is deleted as well keeps it.
            let with_it = drawn.deleted_with(&change.key);
            let is_with = |other: &&Change| other.action == Action::Delete && with_it.contains(&other.key);
            reasons.extend(plan.changes.iter().filter(is_with).filter_map(|other| other.held));
        } else {
            let after = change.tasks.iter().flat_map(|task| &task.after);
            reasons.extend(after.filter_map(|slot| missing.get(&slot.key)));
            let mut needs = change.tasks.iter().flat_map(|task| &task.needs);
            reasons.extend(needs.any(|need| waiting.contains(&need.slot)).then_some(Hold::Blocked));
        }
        match change.held {
            Some(hold) => prop_assert!(reasons.contains(&hold), "{}: {hold:?}, not {reasons:?}", change.key),
            None => prop_assert!(reasons.is_empty(), "{}: {reasons:?}", change.key),
        }
    }
    Ok(())
}

/// What is sent, and what is shown, speaks of declared fields; everything else that was observed goes along as it is.
fn touches_no_undeclared_field(drawn: &Drawn, plan: &Plan) -> Checked {
    for change in plan.changes.iter().filter(|change| change.action != Action::Delete) {
        let declared = &drawn.desired.resources[&change.key];
        for field in change.fields.list().iter() {
            let name = field.path.split(['.', '[']).next().unwrap_or_default();
            let is_rename = change.action == Action::Rename && field.path == "name";
            prop_assert!(is_rename || declared.fields.contains_key(name), "{}: {name} is shown", change.key);
        }
        // A name that is not there yet may stand only where its rename goes ahead as well.
        let is_going =
            |other: &&Change| other.action == Action::Rename && (other.held.is_none() || change.held.is_some());
        let renames = plan.changes.iter().filter(is_going);
        let renames = renames.filter_map(|other| Some((other.key.clone(), drawn.renamed_now(&other.key)?))).collect();
        for task in &change.tasks {
            keeps_what_is_not_declared(drawn, declared, task.slot.part, &task.write.unpack(), &renames)?;
        }
    }
    Ok(())
}

fn keeps_what_is_not_declared(
    drawn: &Drawn,
    declared: &Declared,
    part: &str,
    write: &Write,
    renames: &BTreeMap<Key, Key>,
) -> Checked {
    let key = &declared.key;
    let kind = resource::kind(key.kind).unwrap();
    if part != resource::MAIN {
        let body = write.body().unwrap();
        let (field, nothing) = if part == "enforceSSO" { (part, json!(false)) } else { ("defaultRoles", json!([])) };
        let wanted = declared.fields.get(field).map(|value| if value.is_null() { nothing } else { value.clone() });
        let others = body.keys().filter(|name| *name != field && *name != "id").count();
        prop_assert_eq!((body.get(field), others), (wanted.as_ref(), 0));
        return Ok(());
    }
    let identity: BTreeSet<&str> = ["id", "name", "tenantId", "newName"].into();
    let is_ours = |name: &str| declared.fields.contains_key(name) || identity.contains(name);
    let (before, body) = match write {
        Write::Create(body) => (None, body),
        Write::Patch(body) => (drawn.listed(key), body),
        Write::Overwrite { from, body } => {
            let before = drawn.listed(&Key { name: from.clone(), ..key.clone() });
            prop_assert!(before.is_some(), "{key} is overwritten unseen");
            (before, body)
        }
        Write::Delete { .. } => return Err(TestCaseError::fail(format!("{key} is declared and deleted"))),
    };
    let mut before = before.cloned().unwrap_or_default();
    refer::rename_references(kind.spec(), key, &mut before, renames);
    let kept = |name: &str| before.get(name).filter(|_| matches!(write, Write::Overwrite { .. }));
    for (name, value) in body.iter().filter(|(name, _)| !is_ours(name)) {
        // Names may go in another order than they came.
        let is_kept = match kind.spec().field(name) {
            Some((_, field)) => kept(name).is_some_and(|before| fold::same(field.shape, Some(before), value)),
            None => kept(name) == Some(value),
        };
        prop_assert!(is_kept, "{name} of {key} is not declared");
    }
    if matches!(write, Write::Overwrite { .. }) {
        let is_kept = |name: &str| !is_ours(name) && is_written_by_the_main_call(kind, name);
        for name in before.keys().filter(|name| is_kept(name)) {
            prop_assert!(body.contains_key(name), "{name} of {key} is reset");
        }
    }
    if let (Some(Value::Object(wanted)), Some(sent)) =
        (declared.fields.get("customAttributes"), body.get("customAttributes"))
    {
        let entries = |value: Option<&Value>| value.and_then(Value::as_object).cloned().unwrap_or_default();
        let undeclared = |mut entries: Document| {
            entries.retain(|name, _| !wanted.contains_key(name));
            entries
        };
        prop_assert_eq!(
            undeclared(entries(Some(sent))),
            undeclared(entries(before.get("customAttributes"))),
            "{}",
            key
        );
    }
    Ok(())
}

fn is_written_by_the_main_call(kind: &dyn Kind, name: &str) -> bool {
    let field = kind.spec().field(name);
    field.is_none_or(|(part, field)| {
        part.name == resource::MAIN && field.is_declarable() && field.need != Need::AtCreation
    })
}

fn check(drawn: &Drawn, plan: &Plan, approved: &Approved) -> Checked {
    deletes_only_what_it_may(drawn, plan)?;
    exceeds_no_guard(drawn, plan, approved)?;
    holds_for_a_reason(drawn, plan, approved)?;
    touches_no_undeclared_field(drawn, plan)
}

/// What changes between a plan that an operator saw and the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moved {
    /// Everything that was observed.
    Bodies,
    /// Whether tenants take their users along.
    Cascades,
    /// What the YAML wants.
    Wishes,
    /// What is declared is no longer listed, perhaps so much of it that nobody believes the list.
    Losses,
}

const MOVES: [Moved; 4] = [Moved::Bodies, Moved::Cascades, Moved::Wishes, Moved::Losses];

/// Has what it declares a description? Nor is the only one of a kind ever gone.
fn is_described(kind: &str) -> bool {
    !matches!(kind, "tenants" | "passwordSettings")
}

impl Moved {
    fn apply(self, drawn: &Drawn) -> Drawn {
        let mut drawn = drawn.clone();
        match self {
            Self::Bodies => {
                for document in drawn.world.live.values_mut() {
                    document.insert("futureField".to_owned(), json!("moved"));
                }
            }
            Self::Cascades => {
                for (_, ownership) in drawn.owned.iter_mut().filter(|(key, _)| key.kind == "tenants") {
                    ownership.cascade_delete = !ownership.cascade_delete;
                }
            }
            Self::Wishes => {
                for declared in drawn.desired.resources.values_mut().filter(|declared| is_described(declared.key.kind))
                {
                    let mut fields = declared.fields.to_document();
                    fields.insert("description".to_owned(), json!("moved"));
                    Arc::make_mut(declared).fields = fields.into();
                }
            }
            Self::Losses => {
                let is_plain = |declared: &Declared| is_described(declared.key.kind) && declared.renamed_from.is_none();
                let (resources, live) = (&drawn.desired.resources, &mut drawn.world.live);
                live.retain(|key, _| !resources.get(key).is_some_and(|declared| is_plain(declared)));
            }
        }
        drawn
    }

    /// Does the change rest on what moved?
    fn concerns(self, drawn: &Drawn, (key, action, _): &Name) -> bool {
        match self {
            // What no table knows is carried along as it is by an update.
            Self::Bodies => {
                let is_listed = drawn.listed(drawn.renamed_now(key).as_ref().unwrap_or(key)).is_some();
                is_listed && *action != Action::Update
            }
            Self::Cascades => key.kind == "tenants" && *action == Action::Delete,
            Self::Wishes => is_described(key.kind) && *action != Action::Delete,
            // To accept a loss is another decision than to let a change go.
            Self::Losses => {
                let after = self.apply(drawn);
                let (was, is) = (drawn.referrers(key).undeclared, after.referrers(key).undeclared);
                drawn.is_shrunk(key.kind) != after.is_shrunk(key.kind) || *action == Action::Delete && was != is
            }
        }
    }
}

proptest! {
    #[test]
    fn a_plan_breaks_no_rule_and_holds_nothing_without_one(drawn in drawn()) {
        let plan = plan_with(&drawn, &BTreeSet::new());

        check(&drawn, &plan, &Approved::new())?;
    }

    #[test]
    fn an_approval_releases_what_it_names_and_nothing_else(drawn in drawn()) {
        let seen = plan_with(&drawn, &BTreeSet::new());
        let (approved, digests) = approve(&drawn, &seen);

        let plan = plan_with(&drawn, &digests);

        check(&drawn, &plan, &approved)?;
    }

    #[test]
    fn an_approval_is_void_for_what_moved_since(drawn in drawn(), moved in proptest::sample::select(&MOVES[..])) {
        let seen = plan_with(&drawn, &BTreeSet::new());
        let (mut approved, digests) = approve(&drawn, &seen);
        approved.retain(|change| !moved.concerns(&drawn, change));
        let drawn = moved.apply(&drawn);

        let plan = plan_with(&drawn, &digests);

        check(&drawn, &plan, &approved)?;
    }
}

/// So often is often.
const OFTEN: usize = 3;

/// How often the draws reached what.
#[derive(Debug, Default)]
struct Reached(BTreeMap<String, usize>);

impl Reached {
    fn count(&mut self, what: String) {
        *self.0.entry(what).or_default() += 1;
    }

    fn is_often(&self, what: &str) -> bool {
        self.0.get(what).is_some_and(|times| *times >= OFTEN)
    }

    /// What waits, and why; and what does not.
    fn look_at_plan(&mut self, drawn: &Drawn, plan: &Plan) {
        for change in &plan.changes {
            let way = change.held.map_or("released", Hold::as_str);
            self.count(way.to_owned());
            self.count(format!("{} {way}", change.action.as_str()));
            if let Some(hold) = change.held.filter(|_| !self.is_often(ALONG))
                && !drawn.reasons(change, plan, &Approved::new()).contains(&hold)
            {
                self.count(ALONG.to_owned());
            }
        }
        for change in released(plan).filter(|change| change.action == Action::Delete) {
            let is_limited = drawn.guards.deletes.percent < 100.0 && drawn.owned_of(change.key.kind) >= 5;
            for (is_so, what) in [
                (drawn.owned[&change.key].cascade_delete, CASCADE),
                (drawn.windows[change.key.kind].deleted > 0, AFTER_OTHERS),
                (is_limited, WITHIN_A_SHARE),
            ] {
                (0..usize::from(is_so)).for_each(|_| self.count(what.to_owned()));
            }
        }
    }

    /// What became of what was approved.
    fn look_at_approval(&mut self, drawn: &Drawn, seen: &Plan, approved: &Approved, digests: &BTreeSet<String>) {
        let held =
            |change: &Change| names(change).into_iter().map(|name| (name, change.held.unwrap())).collect::<Vec<_>>();
        let holds: BTreeMap<Name, Hold> = seen.held().flat_map(held).collect();
        for change in plan_with(drawn, digests).changes.iter().filter(|change| approved.contains(&named(change))) {
            let way = change.held.map_or("approved", Hold::as_str);
            self.count(format!("{} then {way}", holds[&named(change)].as_str()));
        }
    }
}

const ALONG: &str = "held along";
const CASCADE: &str = "cascade";
const AFTER_OTHERS: &str = "delete after others";
const WITHIN_A_SHARE: &str = "delete within a share";

/// A property proves little of what its draws never reach. What was reached often is looked for no more, for the rest of the
/// draws cost less then.
#[test]
fn the_draws_reach_every_reason_every_action_and_every_way_out() {
    // What is suspended is no matter of the comparison, and nothing drawn was in force before.
    let is_drawn = |hold: &Hold| !matches!(hold, Hold::Suspended | Hold::DriftReported(_));
    let drawn_holds = Hold::ALL.into_iter().filter(is_drawn);
    let of_approvals = drawn_holds.clone().filter(Hold::can_be_approved);
    let of_approvals = of_approvals.map(|hold| format!("{} then approved", hold.as_str()));
    let of_approvals: Vec<String> = of_approvals.chain(["max_deletes then delete_after".to_owned()]).collect();
    let void = |moved: Moved| format!("{moved:?} made it void");
    let others = [ALONG, CASCADE, AFTER_OTHERS, WITHIN_A_SHARE].map(str::to_owned);
    let actions = ["create", "update", "rename", "delete"].map(|action| format!("{action} released"));
    let reasons = drawn_holds.map(|hold| hold.as_str().to_owned());
    let all = of_approvals.iter().cloned().chain(others).chain(actions).chain(MOVES.map(void)).chain(reasons);
    let all: Vec<String> = all.collect();
    let (mut runner, inputs) = (TestRunner::deterministic(), drawn());
    let mut reached = Reached::default();

    for _ in 0..1200 {
        if all.iter().all(|what| reached.is_often(what)) {
            return;
        }
        let drawn = inputs.new_tree(&mut runner).unwrap().current();
        let seen = plan_with(&drawn, &BTreeSet::new());
        reached.look_at_plan(&drawn, &seen);
        let (approved, digests) = approve(&drawn, &seen);
        if !of_approvals.iter().all(|what| reached.is_often(what)) {
            reached.look_at_approval(&drawn, &seen, &approved, &digests);
        }
        for moved in MOVES {
            if approved.is_empty() || reached.is_often(&void(moved)) {
                continue;
            }
            let plan = plan_with(&moved.apply(&drawn), &digests);
            let is_void = |change: &&Change| approved.contains(&named(change)) && change.held.is_some();
            plan.changes.iter().filter(is_void).for_each(|_| reached.count(void(moved)));
        }
    }
    let rare: Vec<&String> = all.iter().filter(|what| !reached.is_often(what)).collect();
    assert!(rare.is_empty(), "{rare:?} of {reached:#?}");
}
