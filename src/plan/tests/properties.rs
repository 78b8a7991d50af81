//! What holds for any two sides, whatever is approved.

use super::draws::side;
use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn applying_a_plan_yields_the_desired_state_and_the_next_plan_is_empty(ours in side(), theirs in side()) {
        let (desired, mut world) = (desired(&ours), live(&theirs));
        let owned = owning(&world);

        carry_out(planned(&desired, &world, &owned, Policy::Sync), &mut world, &desired);

        let next = planned(&desired, &world, &owning(&world), Policy::Sync);
        prop_assert!(next.changes.is_empty(), "left over: {:?}", next.changes);
        let live: Vec<&Key> = world.live.keys().collect();
        let declared: Vec<&Key> = desired.resources.keys().collect();
        prop_assert_eq!(live, declared);
    }

    #[test]
    fn what_the_yaml_does_not_write_survives(ours in side(), theirs in side()) {
        let (desired, mut world) = (desired(&ours), live(&theirs));
        let before = world.clone();

        carry_out(planned(&desired, &world, &BTreeMap::new(), Policy::UpsertOnly), &mut world, &desired);

        for (key, document) in &before.live {
            let after = world.live.get(key).expect("upsert-only deletes nothing");
            let fields = desired.resources.get(key).map(|declared| declared.fields.to_document()).unwrap_or_default();
            for (name, value) in document.iter().filter(|(name, _)| !fields.contains_key(*name)) {
                prop_assert_eq!(after.get(name), Some(value), "{} {}", key, name);
            }
            if let Some(Value::Object(wanted)) = fields.get("customAttributes") {
                for (name, value) in document["customAttributes"].as_object().unwrap() {
                    if !wanted.contains_key(name) {
                        prop_assert_eq!(&after["customAttributes"][name], value, "{} customAttributes.{}", key, name);
                    }
                }
            }
        }
    }

    #[test]
    fn a_policy_lets_nothing_else_through(ours in side(), theirs in side()) {
        let (desired, world) = (desired(&ours), live(&theirs));
        let owned = owning(&world);

        for policy in [Policy::Observe, Policy::CreateOnly, Policy::UpsertOnly] {
            let plan = planned(&desired, &world, &owned, policy);
            for change in plan.changes.iter().filter(|change| change.held.is_none()) {
                prop_assert!(policy >= Policy::CreateOnly && change.action == Action::Create || policy >= Policy::UpsertOnly);
                prop_assert!(change.action != Action::Delete);
            }
            prop_assert_eq!(plan.held().count(), 0, "what a policy forbids, nobody can approve");
        }
    }

    #[test]
    fn calls_carry_one_sort_of_write_within_the_batch_size_and_the_forecast_counts_them(ours in side(), theirs in side()) {
        let (desired, world) = (desired(&ours), live(&theirs));

        let mut plan = planned(&desired, &world, &owning(&world), Policy::Sync);

        let mut calls: BTreeMap<u32, Vec<Task>> = BTreeMap::new();
        let forecast = plan.forecast_requests();
        for task in plan.take_tasks(&Arc::default()) {
            calls.entry(task.batch).or_default().push(*task);
        }
        prop_assert_eq!(forecast, calls.len());
        for tasks in calls.values() {
            let first = &tasks[0];
            let size = resource::kind(first.slot.key.kind).unwrap().batch_size(first.slot.part, &first.write.with(|_| ()));
            prop_assert!(tasks.len() <= size);
            for task in tasks {
                prop_assert_eq!(task.slot.key.kind, first.slot.key.kind);
                prop_assert_eq!(std::mem::discriminant(&task.write), std::mem::discriminant(&first.write));
                prop_assert!(task.action != Action::Delete || task.slot.key.tenant == first.slot.key.tenant);
            }
        }
    }
}
