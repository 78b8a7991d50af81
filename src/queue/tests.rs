//! What the queue promises, by example, on a paused clock.

use super::*;
use crate::desired::Declared;
use crate::desired::Place;
use crate::plan::Differing;
use crate::plan::Task;
use crate::resource::Action;
use crate::resource::Key;
use crate::resource::MAIN;
use crate::resource::Touch;
use crate::resource::Write;
use crate::telemetry::status::ProblemState;
use crate::telemetry::status::Turn;
use crate::telemetry::status::Waits;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::SystemTime;
use thin_vec::ThinVec;

const BACKOFF: Backoff = Backoff { max_attempts: 5, initial: Duration::from_secs(1), max: Duration::from_secs(60) };

pub(super) fn slot(kind: &'static str, name: &str) -> Slot {
    Slot { key: Key::new(kind, name), part: MAIN }
}

/// A task of its own batch, from an observation of now.
fn task(action: Action, kind: &'static str, name: &str, batch: u32) -> Task {
    let write = match action {
        Action::Delete => Write::Delete { cascade: false },
        Action::Create => Write::Create(crate::resource::Document::new()).pack(),
        Action::Update | Action::Rename => Write::Patch(crate::resource::Document::new()).pack(),
    };
    Task {
        slot: slot(kind, name),
        action,
        write,
        declared: None,
        meant: Some(Arc::new(Declared::new(slot(kind, name).key, Place { file: "a.yaml".into(), line: 7, column: 1 }))),
        calls: 1,
        id: None,
        after: ThinVec::new(),
        needs: ThinVec::new(),
        names_unseen: false,
        frees: ThinVec::new(),
        stage: u32::from(action == Action::Delete) * 10,
        batch,
        ownership: crate::plan::Ownership::default(),
        approval: None,
        observed_at: Instant::now(),
        cause: 1,
        wanted: 0,
        seen: 0,
        incarnation: 0,
        fields: Differing::default(),
        drifted: None,
        origin: Arc::default(),
    }
}

pub fn update(name: &str, batch: u32) -> Task {
    task(Action::Update, "tenants", name, batch)
}

fn after(task: Task, before: &[Slot]) -> Task {
    Task { after: before.into(), ..task }
}

fn queue() -> Queue {
    Queue::new(BACKOFF, Arc::new(Metrics::new()))
}

fn production() -> ProjectName {
    "production".into()
}

fn retry() -> Verdict {
    Verdict::Retry { message: "no answer".into(), ambiguous: false }
}

fn unclear() -> Verdict {
    Verdict::Retry { message: "no answer".into(), ambiguous: true }
}

fn park() -> Verdict {
    Verdict::Park { message: "refused".into() }
}

fn names(work: &Work) -> Vec<&str> {
    work.tasks.iter().map(|task| &*task.slot.key.name).collect()
}

/// Takes what is ready at this moment.
fn take_now(queue: &Queue) -> Option<Work> {
    match queue.try_take() {
        Taken::Work(work) => Some(*work),
        Taken::Wait(_) | Taken::Closed => None,
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_of_one_batch_go_out_together_and_in_plan_order() {
    let queue = queue();
    queue.replace(&production(), vec![update("c", 2), update("a", 1), update("b", 1)], false);

    let first = queue.take().await.unwrap();
    let second = queue.take().await.unwrap();

    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(names(&second), ["c"]);
    assert_eq!(queue.counts(), Counts { in_flight: 3, ..Counts::default() });
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_settled_once_nothing_happens_any_more_by_itself() {
    let queue = queue();
    queue.replace(&production(), vec![update("a", 1)], false);
    assert!(!queue.is_settled("production"), "ready");

    let work = queue.take().await.unwrap();
    assert!(!queue.is_settled("production"), "under way");
    queue.finish(work, vec![retry()]);
    assert!(!queue.is_settled("production"), "to be tried again");
    let work = queue.take().await.unwrap();
    queue.finish(work, vec![park()]);

    assert!(queue.is_settled("production"));
}

#[tokio::test(start_paused = true)]
async fn a_look_is_to_come_where_a_try_may_have_taken_effect() {
    let queue = queue();
    let (a, b) = (Key::new("tenants", "a"), Key::new("tenants", "b"));
    let creates = ["a", "b"].into_iter().zip(1..).map(|(name, batch)| task(Action::Create, "tenants", name, batch));
    queue.replace(&production(), creates.collect(), false);
    assert!(!queue.will_look("production", &a), "not tried yet");

    for verdict in [unclear(), retry()] {
        let work = queue.take().await.unwrap();
        queue.finish(work, vec![verdict]);
    }

    assert!(queue.will_look("production", &a));
    assert!(!queue.will_look("production", &b), "it was not sent");
}

/// What a look shows of a resource that was written meanwhile was taken for somebody else's doing.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_under_way_or_ended_since_a_look_began_is_told() {
    let queue = queue();
    let (a, b) = (Key::new("tenants", "a"), Key::new("tenants", "b"));
    let before = Instant::now();
    queue.replace(&production(), vec![update("a", 1)], false);
    assert!(!queue.is_written_since("production", &a, before), "not handed out yet");

    let work = queue.take().await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    let during = Instant::now();
    assert!(queue.is_written_since("production", &a, during), "under way");
    queue.finish(work, vec![Verdict::Done]);
    tokio::time::advance(Duration::from_secs(1)).await;

    assert!(queue.is_written_since("production", &a, before) && queue.is_written_since("production", &a, during));
    assert!(!queue.is_written_since("production", &a, Instant::now()), "before the look");
    assert!(!queue.is_written_since("production", &b, before), "another one");
}

#[tokio::test(start_paused = true)]
async fn what_a_task_depends_on_is_done_before_it_is_handed_out() {
    let queue = queue();
    let child = after(update("child", 2), &[slot("tenants", "parent")]);
    queue.replace(&production(), vec![child, update("parent", 1)], false);

    let parent = queue.take().await.unwrap();
    assert_eq!(names(&parent), ["parent"]);
    assert!(take_now(&queue).is_none());
    queue.finish(parent, vec![Verdict::Done]);

    assert_eq!(names(&queue.take().await.unwrap()), ["child"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_dependency_blocks_its_dependents_but_not_their_batch() {
    let queue = queue();
    let child = after(update("child", 2), &[slot("tenants", "parent")]);
    let grandchild = after(update("grandchild", 3), &[slot("tenants", "child")]);
    queue.replace(&production(), vec![update("parent", 1), child, update("other", 2), grandchild], false);

    let parent = queue.take().await.unwrap();
    queue.finish(parent, vec![park()]);
    let rest = queue.take().await.unwrap();

    assert_eq!(names(&rest), ["other"]);
    queue.finish(rest, vec![Verdict::Done]);
    assert_eq!(queue.counts(), Counts { blocked: 2, parked: 1, ..Counts::default() });
    assert!(queue.is_settled("production"));
    assert_eq!(queue.outstanding("production"), 2);
    let problems: Vec<_> = queue.problems("production").into_iter().map(|p| (p.id, p.state, p.message)).collect();
    assert_eq!(
        problems,
        [
            ("child".into(), ProblemState::Blocked, "waits for tenants/parent, which is parked".into()),
            ("grandchild".into(), ProblemState::Blocked, "waits for tenants/child, which is blocked itself".into()),
            ("parent".into(), ProblemState::Parked, "refused".to_owned()),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn blocked_tasks_go_on_when_the_dependency_is_done_after_all() {
    let queue = queue();
    let child = after(update("child", 2), &[slot("tenants", "parent")]);
    queue.replace(&production(), vec![update("parent", 1), child], false);
    let parent = queue.take().await.unwrap();
    queue.finish(parent, vec![retry()]);
    assert_eq!(queue.counts(), Counts { blocked: 1, delayed: 1, ..Counts::default() });

    let again = queue.take().await.unwrap();
    assert_eq!(names(&again), ["parent"]);
    assert_eq!(queue.counts(), Counts { ready: 1, in_flight: 1, ..Counts::default() });
    queue.finish(again, vec![Verdict::Done]);

    assert_eq!(names(&queue.take().await.unwrap()), ["child"]);
}

#[tokio::test(start_paused = true)]
async fn each_failure_of_a_task_doubles_its_wait() {
    let queue = queue();
    queue.replace(&production(), vec![update("a", 1)], false);
    let start = Instant::now();
    let mut waits = Vec::new();

    for attempt in 0..5 {
        let before = start.elapsed();
        let work = queue.take().await.unwrap();
        waits.push(start.elapsed().saturating_sub(before));
        assert_eq!(work.attempts, attempt);
        queue.finish(work, vec![retry()]);
    }

    for (wait, longest) in waits.iter().zip([0, 1, 2, 4, 8].map(Duration::from_secs)) {
        // The timer counts in milliseconds.
        assert!(*wait >= longest / 2 && *wait <= longest + Duration::from_millis(1), "{wait:?} {longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_failed_in_one_call_comes_back_in_one_call() {
    let queue = queue();
    queue.replace(&production(), vec![update("a", 1), update("b", 1), update("c", 1)], false);

    let work = queue.take().await.unwrap();
    queue.finish(work, vec![retry(), retry(), retry()]);

    assert_eq!(names(&queue.take().await.unwrap()), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_says_when_it_comes() {
    let queue = queue();
    queue.replace(&production(), vec![update("a", 1)], false);
    let work = queue.take().await.unwrap();
    queue.finish(work, vec![retry()]);

    let [problem] = &queue.problems("production")[..] else { panic!("one problem") };

    assert_eq!((problem.kind.as_str(), problem.id.as_str()), ("tenants", "a"));
    assert_eq!((problem.state, problem.attempts), (ProblemState::Retrying, 1));
    assert_eq!((problem.file.as_deref(), problem.line), (Some("a.yaml"), Some(7)));
    let at = humantime::parse_rfc3339(problem.next_attempt_at.as_deref().unwrap()).unwrap();
    let wait = at.duration_since(SystemTime::now() - Duration::from_secs(2)).unwrap();
    assert!(wait < Duration::from_secs(4), "{wait:?}");
}

#[tokio::test(start_paused = true)]
async fn a_problem_stays_one_while_its_next_try_is_under_way() {
    let queue = queue();
    queue.replace(&production(), vec![update("a", 1)], false);
    let work = queue.take().await.unwrap();
    assert_eq!(queue.problems("production"), []);
    queue.finish(work, vec![retry()]);
    let delayed = queue.problems("production");

    let again = queue.take().await.unwrap();
    let [problem] = &queue.problems("production")[..] else { panic!("one problem") };
    assert_eq!((problem.state, problem.attempts, &problem.message), (ProblemState::Retrying, 1, &delayed[0].message));
    assert_eq!(problem.next_attempt_at, None, "it is now");
    queue.finish(again, vec![Verdict::Done]);

    assert_eq!(queue.problems("production"), []);
}

#[tokio::test(start_paused = true)]
async fn a_newer_plan_takes_effect_at_once_while_what_is_in_flight_finishes() {
    let queue = queue();
    queue.replace(&production(), vec![update("a", 1), update("b", 2), update("c", 3)], false);
    let a = queue.take().await.unwrap();

    let newer = Task { cause: 2, observed_at: Instant::now() + Duration::from_secs(9), ..update("a", 1) };
    queue.replace(&production(), vec![newer, update("d", 2)], false);

    let d = queue.take().await.unwrap();
    assert_eq!(names(&d), ["d"]);
    assert!(take_now(&queue).is_none(), "the slot of a is taken, b and c are no longer wanted");
    queue.finish(a, vec![retry()]);
    let a = queue.take().await.unwrap();
    assert_eq!((a.tasks.head.cause, a.attempts), (2, 0), "another cause starts afresh");
    queue.finish(a, vec![Verdict::Done]);
    queue.finish(d, vec![Verdict::Done]);
    assert_eq!(queue.counts(), Counts::default());
}

fn rename(old: &str, new: &str, batch: u32) -> Task {
    let write = Write::Overwrite { from: old.into(), body: crate::resource::Document::new() }.pack();
    Task { write, ..task(Action::Rename, "lists", new, batch) }
}

/// It went out beside the update of the same list, which took effect after it.
#[tokio::test(start_paused = true)]
async fn what_is_about_the_same_resource_by_another_key_waits_for_the_call_that_is_under_way() {
    let list = |action, name| task(action, "lists", name, 2);
    let role = || Task { slot: Slot { key: Key::in_tenant("roles", "t", "r"), part: MAIN }, ..update("r", 2) };
    let by_id = |name| Task { id: Some("1".into()), ..list(Action::Update, name) };
    let tenant = || task(Action::Delete, "tenants", "t", 2);
    for (before, then) in [
        (list(Action::Update, "old"), rename("old", "new", 2)),
        (list(Action::Create, "old"), rename("old", "new", 2)),
        (rename("old", "new", 2), rename("old", "newer", 2)),
        (rename("old", "new", 2), rename("new", "newer", 2)),
        (rename("old", "new", 2), list(Action::Update, "old")),
        (by_id("old"), by_id("new")),
        (tenant(), role()),
        (role(), tenant()),
    ] {
        let (queue, which) = (queue(), (before.slot.clone(), then.slot.clone()));
        queue.replace(&production(), vec![before], false);
        let before = queue.take().await.unwrap();
        // Looked at after the answer, as far as the queue knows.
        let later = Instant::now() + Duration::from_secs(9);
        queue.replace(&production(), vec![Task { observed_at: later, ..then }, update("other", 3)], false);

        let other = queue.take().await.unwrap();
        assert_eq!(names(&other), ["other"], "{which:?}: nothing else waits");
        queue.finish(other, vec![Verdict::Done]);
        assert!(take_now(&queue).is_none(), "{which:?}: the other one is under way");
        queue.finish(before, vec![Verdict::Done]);

        assert_eq!(queue.take().await.unwrap().tasks.head.slot, which.1, "{which:?}");
    }
}

/// The plan that comes in between has something else in the slot of what is under way.
#[tokio::test(start_paused = true)]
async fn what_a_worker_has_counts_and_not_what_the_newest_plan_has_in_its_place() {
    let queue = queue();
    let later = Instant::now() + Duration::from_secs(9);
    queue.replace(&production(), vec![rename("old", "new", 1)], false);
    let work = queue.take().await.unwrap();
    let news = || vec![task(Action::Update, "lists", "new", 1), task(Action::Create, "lists", "old", 2)];
    let news = || news().into_iter().map(|task| Task { cause: 2, observed_at: later, ..task }).collect::<Vec<_>>();
    for _ in 0..2 {
        queue.replace(&production(), news(), false);
        assert!(take_now(&queue).is_none(), "`old` is being renamed");
        let key = Key::new("lists", "old");
        assert!(queue.in_flight("production").meets(Touch::new(Action::Update, &key, None, None)));
    }

    queue.finish(work, vec![Verdict::Done]);

    let both = [queue.take().await.unwrap(), queue.take().await.unwrap()];
    assert_eq!(both.each_ref().map(|work| &*work.tasks.head.slot.key.name), ["new", "old"]);
}

/// A rename that was planned before another one took effect found nothing of the old name, and was parked.
#[tokio::test(start_paused = true)]
async fn what_was_planned_before_the_resource_was_written_under_another_key_is_planned_again() {
    for (before, then) in [
        (rename("old", "new", 1), rename("old", "newer", 1)),
        (rename("old", "new", 1), task(Action::Update, "lists", "old", 1)),
        (task(Action::Update, "lists", "old", 1), rename("old", "newer", 1)),
    ] {
        let queue = queue();
        queue.replace(&production(), vec![before.clone()], false);
        let work = queue.take().await.unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        queue.replace(&production(), vec![Task { observed_at: Instant::now(), ..then.clone() }], false);
        tokio::time::advance(Duration::from_secs(1)).await;

        queue.finish(work, vec![Verdict::Done]);

        assert!(take_now(&queue).is_none(), "{:?} after {:?}", then.slot, before.slot);
        assert!(queue.awaits_look("production"));
    }
    // Of one plan each knows of the other.
    let queue = queue();
    let swap = vec![rename("a", "b", 1), task(Action::Create, "lists", "a", 2)];
    let swap = swap.into_iter().map(|task| Task { observed_at: Instant::now(), ..task }).collect();
    queue.replace(&production(), swap, false);
    let work = queue.take().await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    queue.finish(work, vec![Verdict::Done]);
    assert_eq!(names(&queue.take().await.unwrap()), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_in_flight_that_no_plan_wants_any_more_ends_with_its_answer() {
    let queue = queue();
    queue.replace(&production(), vec![update("a", 1)], false);
    let a = queue.take().await.unwrap();

    queue.replace(&production(), vec![after(update("b", 1), &[slot("tenants", "a")])], false);
    assert_eq!(queue.counts(), Counts { ready: 1, in_flight: 1, ..Counts::default() });
    assert!(take_now(&queue).is_none(), "b waits for the call that is under way");
    queue.finish(a, vec![retry()]);

    assert_eq!(names(&queue.take().await.unwrap()), ["b"]);
    assert_eq!(queue.counts().total(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_cause_keeps_its_wait_and_stays_parked_until_it_changes() {
    let queue = queue();
    let plan = || vec![update("late", 1), update("bad", 2)];
    queue.replace(&production(), plan(), false);
    let late = queue.take().await.unwrap();
    let bad = queue.take().await.unwrap();
    queue.finish(late, vec![retry()]);
    queue.finish(bad, vec![park()]);

    queue.replace(&production(), plan(), false);
    assert_eq!(queue.counts(), Counts { delayed: 1, parked: 1, ..Counts::default() });

    queue.replace(&production(), vec![update("late", 1), Task { cause: 2, ..update("bad", 2) }], false);
    assert_eq!(queue.counts(), Counts { delayed: 1, ready: 1, ..Counts::default() });
}

#[tokio::test(start_paused = true)]
async fn what_was_not_permitted_is_asked_for_again_and_what_was_refused_is_not() {
    let queue = queue();
    let plan = || vec![update("bad", 1), update("forbidden", 2)];
    queue.replace(&production(), plan(), false);
    for verdict in [park(), Verdict::Forbid { message: "no such plan".into() }] {
        let work = queue.take().await.unwrap();
        queue.finish(work, vec![verdict]);
    }
    queue.replace(&production(), plan(), false);
    assert_eq!(queue.counts(), Counts { parked: 2, ..Counts::default() });

    queue.ask_again(&production(), true);

    assert_eq!(queue.counts(), Counts { ready: 1, parked: 1, ..Counts::default() });
    let work = queue.take().await.unwrap();
    assert_eq!((&*work.tasks.head.slot.key.name, work.attempts), ("forbidden", 1));
    assert_eq!(work.last_failure.as_deref(), Some("no such plan"));
}

/// Until somebody asked for it by hand it was never tried again: nothing here changed when the other side did.
#[tokio::test(start_paused = true)]
async fn what_names_something_that_no_look_shows_is_tried_again_after_a_wait_that_grows() {
    let queue = queue();
    let unseen = |n: u32| Task { names_unseen: true, ..update(&format!("r{n:02}"), n + 1) };
    let plan = || (0..12).map(unseen).collect::<Vec<_>>();
    queue.replace(&production(), vec![unseen(0), update("seen", 2)], false);
    for _ in 0..2 {
        let work = queue.take().await.unwrap();
        queue.finish(work, vec![park()]);
    }
    let parked = |queue: &Queue| queue.counts().parked;
    let mut waits = Vec::new();
    for _ in 0..9 {
        let refused_at = Instant::now();
        while parked(&queue) == 2 {
            tokio::time::advance(BACKOFF.max / 2).await;
            queue.ask_again(&production(), true);
        }
        waits.push(refused_at.elapsed().as_secs_f64() / BACKOFF.max.as_secs_f64());
        let work = queue.take().await.unwrap();
        assert_eq!((&*work.tasks.head.slot.key.name, queue.counts().parked), ("r00", 1));
        queue.finish(work, vec![park()]);
    }
    assert_eq!(waits, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 64.0, 64.0]);

    // However many there are, a pass tries a few.
    queue.replace(&production(), plan(), true);
    while parked(&queue) < 12 {
        let work = queue.take().await.unwrap();
        queue.finish(work, vec![park()]);
    }
    tokio::time::advance(BACKOFF.max).await;
    queue.ask_again(&production(), false);
    assert_eq!((queue.counts().ready, parked(&queue)), (8, 4));
}

#[tokio::test(start_paused = true)]
async fn fresh_gives_waiting_and_parked_tasks_a_new_try() {
    let queue = queue();
    let plan = || vec![task(Action::Create, "tenants", "late", 1), update("bad", 2)];
    queue.replace(&production(), plan(), false);
    let late = queue.take().await.unwrap();
    let bad = queue.take().await.unwrap();
    queue.finish(late, vec![Verdict::Retry { message: "no answer".into(), ambiguous: true }]);
    queue.finish(bad, vec![park()]);

    queue.replace(&production(), plan(), true);

    let late = take_now(&queue).unwrap();
    assert_eq!((late.attempts, late.verify), (0, true), "a lost answer stays one to look after");
    assert!(take_now(&queue).is_some());
}

#[tokio::test(start_paused = true)]
async fn an_unclear_answer_makes_the_next_try_look_first() {
    let queue = queue();
    queue.replace(&production(), vec![task(Action::Create, "tenants", "a", 1)], false);
    let work = queue.take().await.unwrap();
    assert!(!work.verify);

    queue.finish(work, vec![unclear()]);

    let again = queue.take().await.unwrap();
    assert!(again.verify);
    queue.finish(again, vec![Verdict::Released]);
    assert!(take_now(&queue).unwrap().verify, "it was not sent, and nobody has looked");
}

/// A worker that could not see what became of a call says so, whichever way it gives the task back.
#[tokio::test(start_paused = true)]
async fn what_a_worker_says_is_to_be_looked_at_first_is() {
    for verdict in [Some(Verdict::Released), Some(retry()), None] {
        let queue = queue();
        queue.replace(&production(), vec![update("a", 1)], false);
        let mut work = queue.take().await.unwrap();
        assert!(!work.verify, "nothing was sent yet");

        work.verify = true;
        match verdict.clone() {
            Some(verdict) => queue.finish(work, vec![verdict]),
            None => queue.finish_split(work, vec![None]),
        }

        assert!(queue.take().await.unwrap().verify, "{verdict:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_with_an_unclear_answer_is_sent_again_without_a_look() {
    let queue = queue();
    queue.replace(&production(), vec![update("a", 1)], false);
    let work = queue.take().await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;

    queue.finish(work, vec![unclear()]);

    let again = queue.take().await.unwrap();
    assert_eq!((names(&again), again.attempts, again.verify), (vec!["a"], 1, false));
}

/// A queue that counts how often it asked for a pass.
fn asking() -> (Queue, Arc<AtomicUsize>) {
    let (queue, asked) = (queue(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    queue.on_stale(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    (queue, asked)
}

/// A task that these files asked for.
fn of(revision: &str, task: Task) -> Task {
    let origin = crate::plan::Origin { revision: revision.to_owned(), ..crate::plan::Origin::default() };
    Task { origin: Arc::new(origin), observed_at: Instant::now(), ..task }
}

/// Looks at the project for these files, and goes by what they want.
async fn pass(queue: &Queue, revision: &str, tasks: Vec<Task>) {
    queue.begin_look(&production(), revision);
    let tasks = tasks.into_iter().map(|task| of(revision, task)).collect();
    tokio::time::advance(Duration::from_secs(1)).await;
    queue.replace(&production(), tasks, false);
    tokio::time::advance(Duration::from_secs(1)).await;
}

/// The project was called converged by a look that was over before the call landed.
#[tokio::test(start_paused = true)]
async fn a_call_that_lands_after_the_look_of_newer_files_asks_for_another_look() {
    let other = || Task { cause: 2, wanted: 2, ..update("a", 1) };
    // How the call ends, what the newer files want, and whether somebody has to look again.
    let cases = [
        (Verdict::Done, None, true),
        (unclear(), None, true),
        (retry(), None, false),
        (park(), None, false),
        (Verdict::Released, None, false),
        (Verdict::Done, Some(other()), true),
        (unclear(), Some(other()), true),
        (Verdict::Done, Some(update("a", 1)), false),
    ];
    for (verdict, newer, expected) in cases {
        let (queue, asked) = asking();
        let case = format!("{verdict:?}, then wanted: {newer:?}");
        pass(&queue, "one", vec![update("a", 1)]).await;
        let work = take_now(&queue).unwrap();
        pass(&queue, "two", newer.into_iter().collect()).await;

        queue.finish(work, vec![verdict]);
        assert!(take_now(&queue).is_none(), "{case}");

        let found = (asked.load(Ordering::Relaxed), queue.awaits_look("production"));
        assert_eq!(found, (usize::from(expected), expected), "{case}");
        pass(&queue, "two", Vec::new()).await;
        assert!(!queue.awaits_look("production"), "{case}: it was looked at");
        assert_eq!(asked.load(Ordering::Relaxed), usize::from(expected), "{case}");
    }
}

/// Nobody could see what became of it: the files had moved on.
#[tokio::test(start_paused = true)]
async fn a_refused_batch_that_newer_files_do_not_want_is_looked_at_where_a_part_may_have_taken_effect() {
    for is_in_doubt in [false, true] {
        let (queue, asked) = asking();
        pass(&queue, "one", vec![update("a", 1), update("b", 1)]).await;
        let mut work = take_now(&queue).unwrap();
        pass(&queue, "two", Vec::new()).await;

        work.verify |= is_in_doubt;
        queue.finish_split(work, vec![None, None]);

        assert_eq!(queue.counts().total(), 0);
        assert_eq!(
            (asked.load(Ordering::Relaxed), queue.awaits_look("production")),
            (usize::from(is_in_doubt), is_in_doubt)
        );
    }
}

/// The same where it lands while the project is looked at.
#[tokio::test(start_paused = true)]
async fn a_call_that_lands_during_the_look_of_newer_files_asks_for_another_look() {
    for verdict in [Verdict::Done, unclear()] {
        let (queue, asked) = asking();
        pass(&queue, "one", vec![update("a", 1)]).await;
        let work = take_now(&queue).unwrap();
        queue.begin_look(&production(), "two");
        tokio::time::advance(Duration::from_secs(1)).await;
        queue.finish(work, vec![verdict]);
        assert_eq!(asked.load(Ordering::Relaxed), 0, "the newer plan may know of it");

        queue.replace(&production(), Vec::<Task>::new(), false);

        assert_eq!((asked.load(Ordering::Relaxed), queue.awaits_look("production")), (1, true));
    }
}

/// What it is for is known once the files were read again.
#[tokio::test(start_paused = true)]
async fn a_look_that_turns_out_to_be_of_newer_files_is_of_those() {
    for (revision, looks) in [("one", 0), ("two", 1)] {
        let (queue, asked) = asking();
        pass(&queue, "one", vec![update("a", 1)]).await;
        let work = take_now(&queue).unwrap();
        queue.begin_look(&production(), "one");
        queue.look_for(&production(), revision);
        tokio::time::advance(Duration::from_secs(1)).await;
        queue.replace(&production(), Vec::<Task>::new(), false);

        queue.finish(work, vec![Verdict::Done]);

        assert_eq!(asked.load(Ordering::Relaxed), looks, "{revision}");
    }
}

/// A delete that is declared again during the look may have been sent.
#[tokio::test(start_paused = true)]
async fn a_withdrawn_delete_that_lands_asks_for_a_look_after_the_one_under_way() {
    let (queue, asked) = asking();
    pass(&queue, "one", vec![task(Action::Delete, "roles", "back", 1)]).await;
    let work = take_now(&queue).unwrap();
    queue.begin_look(&production(), "two");
    queue.withdraw_deletes(&production(), |_| true);
    tokio::time::advance(Duration::from_secs(1)).await;

    queue.finish(work, vec![Verdict::Done]);
    queue.replace(&production(), Vec::<Task>::new(), false);

    assert!(asked.load(Ordering::Relaxed) > 0);
    assert!(queue.awaits_look("production"));
}

/// With each pass over a long drain, another one would be asked for.
#[tokio::test(start_paused = true)]
async fn what_a_look_of_the_same_files_saw_done_needs_no_other() {
    let (queue, asked) = asking();
    pass(&queue, "one", vec![update("a", 1), update("b", 2)]).await;
    let (a, b) = (take_now(&queue).unwrap(), take_now(&queue).unwrap());
    queue.begin_look(&production(), "one");
    tokio::time::advance(Duration::from_secs(1)).await;
    queue.finish(a, vec![Verdict::Done]);

    queue.replace(&production(), Vec::<Task>::new(), false);
    queue.finish(b, vec![Verdict::Done]);

    assert_eq!((asked.load(Ordering::Relaxed), queue.awaits_look("production")), (0, false));
}

#[tokio::test(start_paused = true)]
async fn a_task_observed_before_the_last_write_is_dropped_and_a_pass_asked_for() {
    let queue = queue();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    queue.on_stale(move |project| {
        assert_eq!(&**project, "production");
        count.fetch_add(1, Ordering::Relaxed);
    });
    queue.replace(&production(), vec![update("a", 1)], false);
    let work = queue.take().await.unwrap();
    let stale = Task { cause: 2, wanted: 2, ..update("a", 1) };
    tokio::time::advance(Duration::from_secs(1)).await;
    queue.finish(work, vec![Verdict::Done]);

    queue.replace(&production(), vec![stale], false);
    assert!(take_now(&queue).is_none());

    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(queue.counts(), Counts::default());
    assert!(queue.written_at("production", &slot("tenants", "a")).is_some());
    let text = queue.shared.metrics.render();
    assert!(
        text.contains(
            "changes_total{action=\"update\",kind=\"tenants\",project=\"production\",result=\"superseded\"} 1"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_superseded_task_leaves_the_queue_and_asks_for_a_pass() {
    let queue = queue();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    queue.on_stale(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    queue.replace(&production(), vec![update("a", 1)], false);

    let work = queue.take().await.unwrap();
    queue.finish(work, vec![Verdict::Superseded]);

    assert_eq!((asked.load(Ordering::Relaxed), queue.counts()), (1, Counts::default()));
}

#[tokio::test(start_paused = true)]
async fn a_refused_batch_is_halved_until_the_bad_one_stands_alone() {
    let queue = queue();
    let tasks = ["a", "b", "bad", "d", "e", "f"].map(|name| update(name, 1)).to_vec();
    queue.replace(&production(), tasks, false);
    let mut calls = Vec::new();

    while let Some(work) = take_now(&queue) {
        calls.push(names(&work).join(" "));
        let is_bad = names(&work).contains(&"bad");
        match work.tasks.len() {
            1 if is_bad => queue.finish(work, vec![park()]),
            _ if is_bad => {
                let decided = vec![None; work.tasks.len()];
                queue.finish_split(work, decided);
            }
            n => queue.finish(work, vec![Verdict::Done; n]),
        }
    }

    assert_eq!(calls, ["a b bad d e f", "a b bad", "d e f", "a b", "bad"]);
    assert_eq!(queue.shared.metrics.queue_adds_total.with_label_values(&["split"]).get(), 9, "six, and three again");
    assert_eq!(queue.counts(), Counts { parked: 1, ..Counts::default() });
}

#[tokio::test(start_paused = true)]
async fn released_work_is_handed_out_again_at_once() {
    let queue = queue();
    queue.replace(&production(), vec![update("a", 1), update("b", 1)], false);

    let work = queue.take().await.unwrap();
    queue.finish(work, vec![Verdict::Released]);

    let again = take_now(&queue).unwrap();
    assert_eq!((names(&again), again.attempts), (vec!["a", "b"], 0));
}

#[tokio::test(start_paused = true)]
async fn deletes_wait_for_every_change_and_go_stage_by_stage() {
    let queue = queue();
    let tenant = Task { stage: 12, ..task(Action::Delete, "tenants", "gone", 8) };
    let role = Task { stage: 11, ..task(Action::Delete, "roles", "gone", 9) };
    queue.replace(&production(), vec![tenant, role, update("a", 1)], false);

    let a = take_now(&queue).unwrap();
    assert_eq!(names(&a), ["a"]);
    assert!(take_now(&queue).is_none());
    queue.finish(a, vec![Verdict::Done]);
    let first = take_now(&queue).unwrap();
    assert_eq!(first.tasks.head.slot.key.kind, "roles");
    assert!(take_now(&queue).is_none());
    queue.finish(first, vec![park()]);

    assert_eq!(take_now(&queue).unwrap().tasks.head.slot.key.kind, "tenants");
}

/// While a newer revision was observed, deletes of the older one went on, though it declared the resource again.
#[tokio::test(start_paused = true)]
async fn deletes_that_are_declared_again_are_withdrawn_and_the_others_stay() {
    let queue = queue();
    let delete = |name, batch| task(Action::Delete, "roles", name, batch);
    queue.replace(&production(), vec![delete("back", 1), delete("gone", 2), update("a", 0)], false);

    queue.withdraw_deletes(&production(), |key| &*key.name != "gone");

    let mut done = Vec::new();
    while let Some(work) = take_now(&queue) {
        done.extend(names(&work).iter().map(ToString::to_string));
        queue.finish(work, vec![Verdict::Done]);
    }
    assert_eq!(done, ["a", "gone"]);
}

/// Deletes that a worker held at the rate gate were sent long after the resources were declared again.
#[tokio::test(start_paused = true)]
async fn deletes_that_wait_for_the_rate_limit_are_withdrawn_as_well_and_their_batch_mates_go_on() {
    let queue = queue();
    let delete = |name| task(Action::Delete, "roles", name, 1);
    queue.replace(&production(), vec![delete("back"), delete("gone")], false);
    let work = take_now(&queue).unwrap();
    let slots: Vec<Slot> = work.tasks.iter().map(|task| task.slot.clone()).collect();
    assert!(queue.is_wanted(&production(), &slots));

    queue.withdraw_deletes(&production(), |key| &*key.name == "back");

    assert!(!queue.is_wanted(&production(), &slots));
    queue.finish(work, vec![Verdict::Released, Verdict::Released]);
    let again = take_now(&queue).unwrap();
    assert_eq!(names(&again), ["gone"]);
    queue.finish(again, vec![Verdict::Done]);
    assert!(take_now(&queue).is_none());
}

/// A call that waits for the rate limit asks right before it is sent: by then a newer plan may have dropped it, or an
/// operator suspended the project.
#[tokio::test(start_paused = true)]
async fn what_was_handed_out_is_wanted_until_a_plan_drops_it_or_the_project_is_paused() {
    let queue = queue();
    queue.replace(&production(), vec![update("a", 1)], false);
    let work = take_now(&queue).unwrap();
    let slots: Vec<Slot> = work.tasks.iter().map(|task| task.slot.clone()).collect();

    assert!(queue.is_wanted(&production(), &slots));
    queue.pause(&production(), PausedBy::Operator);
    assert!(!queue.is_wanted(&production(), &slots), "suspended");
    queue.resume(&production(), PausedBy::Operator);
    queue.replace(&production(), Vec::<Task>::new(), false);
    assert!(!queue.is_wanted(&production(), &slots), "dropped");
    queue.finish(work, vec![Verdict::Released]);
    assert!(take_now(&queue).is_none());
}

#[tokio::test(start_paused = true)]
async fn the_deletes_of_a_kind_wait_while_a_create_of_it_fails() {
    let queue = queue();
    let create = task(Action::Create, "roles", "new", 1);
    let role = task(Action::Delete, "roles", "old", 2);
    let permission = task(Action::Delete, "permissions", "old", 3);
    queue.replace(&production(), vec![create, role, permission], false);
    let create = take_now(&queue).unwrap();

    queue.finish(create, vec![park()]);

    assert_eq!(take_now(&queue).unwrap().tasks.head.slot.key.kind, "permissions");
    assert!(take_now(&queue).is_none());
    let blocked = queue.problems("production").into_iter().find(|p| p.state == ProblemState::Blocked).unwrap();
    assert_eq!(blocked.id, "old");
    assert_eq!(blocked.message, "nothing of roles is deleted before the create of roles/new, which is parked");
}

#[tokio::test(start_paused = true)]
async fn deletes_do_not_wait_for_an_update_that_fails() {
    let queue = queue();
    queue.replace(&production(), vec![update("a", 1), task(Action::Delete, "tenants", "old", 2)], false);
    let refused = take_now(&queue).unwrap();

    queue.finish(refused, vec![park()]);

    assert_eq!(names(&take_now(&queue).unwrap()), ["old"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_for_a_member_whose_slot_is_taken() {
    let queue = queue();
    queue.replace(&production(), vec![update("a", 1)], false);
    let a = queue.take().await.unwrap();
    let newer = Task { cause: 2, ..update("a", 1) };
    queue.replace(&production(), vec![newer, update("b", 1)], false);

    assert!(take_now(&queue).is_none(), "one call for both is cheaper than two");
    queue.finish(a, vec![retry()]);

    assert_eq!(names(&queue.take().await.unwrap()), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn projects_take_turns() {
    let queue = queue();
    let tasks = |prefix: &str| (0..3).map(|n| update(&format!("{prefix}{n}"), n)).collect::<Vec<_>>();
    queue.replace(&"a".into(), tasks("a"), false);
    queue.replace(&"b".into(), tasks("b"), false);

    let order: Vec<String> =
        std::iter::from_fn(|| take_now(&queue)).map(|work| work.tasks.head.slot.key.name.to_string()).collect();

    assert_eq!(order, ["a0", "b0", "a1", "b1", "a2", "b2"]);
}

/// A suspension that ended let go out what waited for a key that Descope still refused.
#[tokio::test(start_paused = true)]
async fn a_pause_is_over_with_its_last_reason_whatever_order_they_end_in() {
    let reasons = [PausedBy::Operator, PausedBy::Refusal, PausedBy::Files];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let queue = queue();
        queue.replace(&production(), vec![update("a", 1)], false);
        for by in reasons.into_iter().chain(reasons) {
            queue.pause(&production(), by);
        }

        for index in order {
            assert!(take_now(&queue).is_none(), "{order:?}, before {index}");
            queue.resume(&production(), reasons[index]);
        }

        assert_eq!(names(&take_now(&queue).unwrap()), ["a"], "{order:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_project_hands_out_nothing_and_the_others_go_on() {
    let queue = queue();
    queue.replace(&"a".into(), vec![update("a", 1)], false);
    queue.replace(&"b".into(), vec![update("b", 1)], false);
    queue.pause(&"a".into(), PausedBy::Operator);

    assert_eq!(names(&take_now(&queue).unwrap()), ["b"]);
    assert!(take_now(&queue).is_none());
    queue.replace(&"a".into(), vec![update("a", 1)], false);
    assert!(take_now(&queue).is_none(), "a new plan does not resume it");
    queue.resume(&"a".into(), PausedBy::Operator);

    assert_eq!(names(&take_now(&queue).unwrap()), ["a"]);
}

/// In a drain there are thousands of changes a second, and each woke every worker.
#[tokio::test(start_paused = true)]
async fn news_wakes_one_of_the_workers_that_wait_and_work_as_many_as_there_is_work_for() {
    let (queue, wakes) = (queue(), Arc::new(AtomicUsize::new(0)));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (queue, wakes) = (queue.clone(), Arc::clone(&wakes));
        workers.spawn(async move {
            let mut take = std::pin::pin!(queue.take());
            std::future::poll_fn(|context| {
                wakes.fetch_add(1, Ordering::Relaxed);
                take.as_mut().poll(context)
            })
            .await
        });
    }
    // Time passes only once nobody has anything to do.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(wakes.swap(0, Ordering::Relaxed), 8, "each began to wait");

    queue.ask_again(&production(), true);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(wakes.load(Ordering::Relaxed), 1);

    queue.replace(&production(), vec![update("a", 1), update("b", 2), update("c", 3)], false);
    for _ in 0..3 {
        assert!(workers.join_next().await.unwrap().unwrap().is_some());
    }
    queue.close();
    while let Some(worker) = workers.join_next().await {
        assert!(worker.unwrap().is_none(), "it stops");
    }
}

#[tokio::test(start_paused = true)]
async fn workers_wake_up_for_a_new_plan_and_stop_when_it_is_closed() {
    let queue = queue();
    let (plan, stop) = (queue.clone(), queue.clone());

    let (work, ()) = tokio::join!(queue.take(), async {
        tokio::task::yield_now().await;
        plan.replace(&production(), vec![update("a", 1)], false);
    });
    assert_eq!(names(&work.unwrap()), ["a"]);
    let (nothing, ()) = tokio::join!(queue.take(), async {
        tokio::task::yield_now().await;
        stop.close();
    });

    assert_eq!(nothing, None);
}

#[tokio::test(start_paused = true)]
async fn settled_waits_for_calls_and_delays_but_not_for_parked_tasks() {
    let queue = queue();
    queue.replace(&production(), vec![update("a", 1), update("b", 2)], false);
    let start = Instant::now();
    let worker = queue.clone();

    tokio::join!(queue.settled("production"), async {
        let a = worker.take().await.unwrap();
        let b = worker.take().await.unwrap();
        worker.finish(a, vec![retry()]);
        worker.finish(b, vec![park()]);
        let a = worker.take().await.unwrap();
        worker.finish(a, vec![Verdict::Done]);
    });

    assert!(start.elapsed() >= BACKOFF.initial / 2);
    assert_eq!(queue.counts(), Counts { parked: 1, ..Counts::default() });
}

#[tokio::test(start_paused = true)]
async fn a_plan_whose_order_runs_in_a_circle_still_ends() {
    let queue = queue();
    let a = after(update("a", 1), &[slot("tenants", "b")]);
    let b = after(update("b", 2), &[slot("tenants", "a")]);
    queue.replace(&production(), vec![a, b, task(Action::Delete, "tenants", "c", 3)], false);
    let mut order = Vec::new();

    while let Some(work) = take_now(&queue) {
        order.push(names(&work).join(" "));
        queue.finish(work, vec![Verdict::Done]);
    }

    assert_eq!(order, ["a", "b", "c"]);
}

/// Alerts on the depth rang for ever on a replica that had lost a project to another.
#[tokio::test(start_paused = true)]
async fn what_another_replica_writes_now_is_no_depth_here() {
    let queue = queue();
    queue.replace(&"a".into(), vec![update("a", 1)], false);
    queue.replace(&"b".into(), vec![update("b", 1), update("c", 2)], false);
    let ready = || queue.shared.metrics.queue_depth.with_label_values(&["ready"]).get();

    queue.pause(&"b".into(), PausedBy::Operator);
    assert_eq!(ready(), 3, "what is suspended here is still here");
    queue.pause(&"b".into(), PausedBy::Lease);
    assert_eq!(ready(), 1);
    queue.resume(&"b".into(), PausedBy::Lease);

    assert_eq!(ready(), 3);
}

#[tokio::test(start_paused = true)]
async fn depth_adds_and_waits_are_measured() {
    let queue = queue();
    queue.replace(&production(), vec![update("a", 1), update("b", 2)], false);
    tokio::time::advance(Duration::from_secs(3)).await;

    let work = queue.take().await.unwrap();
    assert_eq!(work.waited, Duration::from_secs(3));
    queue.finish(work, vec![retry()]);
    queue.replace(&production(), vec![update("a", 1), update("b", 2)], false);

    let text = queue.shared.metrics.render();
    for line in [
        "queue_depth{state=\"ready\"} 1",
        "queue_depth{state=\"delayed\"} 1",
        "queue_adds_total{reason=\"plan\"} 2",
        "queue_adds_total{reason=\"retry\"} 1",
        "queue_wait_seconds_sum 3",
    ] {
        assert!(text.contains(&format!("descope_gitops_{line}\n")), "{line}\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_begins_when_nothing_but_its_turn_holds_a_task_back() {
    let queue = queue();
    queue.replace(
        &production(),
        vec![update("parent", 1), after(update("child", 2), &[slot("tenants", "parent")])],
        false,
    );
    let parent = queue.take().await.unwrap();
    tokio::time::advance(Duration::from_secs(7)).await;
    queue.finish(parent, vec![Verdict::Done]);
    tokio::time::advance(Duration::from_secs(2)).await;

    assert_eq!(queue.take().await.unwrap().waited, Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn each_resource_stands_where_the_worst_of_its_tasks_does() {
    let queue = queue();
    let blocked = after(update("blocked", 2), &[slot("tenants", "bad")]);
    queue.replace(&production(), vec![update("bad", 1), blocked, update("free", 3)], false);
    let bad = queue.take().await.unwrap();
    queue.finish(bad, vec![park()]);

    let standings: BTreeMap<String, Standing> =
        queue.standings("production").into_iter().map(|(key, standing)| (key.name.to_string(), standing)).collect();

    let expected = [("bad", Standing::Parked), ("blocked", Standing::Blocked), ("free", Standing::Changing)];
    assert_eq!(standings, expected.map(|(name, standing)| (name.to_owned(), standing)).into());
}

#[tokio::test(start_paused = true)]
async fn each_task_says_what_it_waits_for() {
    let queue = queue();
    let blocked = after(update("blocked", 2), &[slot("tenants", "bad")]);
    let later = after(update("later", 4), &[slot("tenants", "free")]);
    queue.replace(&production(), vec![update("bad", 1), blocked, update("free", 3), later], false);
    let bad = queue.take().await.unwrap();
    queue.finish(bad, vec![park()]);

    let mut waits = Waits::first();
    queue.waits("production", &Turn::of_traffic(None, false), &|_| true, &mut waits);

    let rows: Vec<_> = waits.rows().into_iter().map(|wait| (wait.id, wait.why)).collect();
    let expected = [
        ("bad", "parked: refused"),
        ("blocked", "dependency: waits for tenants/bad, which is parked"),
        ("later", "dependency: tenants/free goes first"),
        ("free", "budget: it goes out as the rate limit allows"),
    ];
    assert_eq!(rows, expected.map(|(id, why)| (id.to_owned(), why.to_owned())));
}
