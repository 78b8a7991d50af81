use super::*;
use crate::resource::spec::How;
use crate::resource::spec::Read;
use serde_json::json;

static PART: Part =
    Part { name: "part", fields: &[Field::text("a"), Field::secret("key")], read: Read::Each, how: How::Overwrite };

fn wanted(name: &str, declared: u64) -> Wanted {
    Wanted { key: Key::new("tenants", name), part: &PART, id: None, declared }
}

fn none() -> BTreeSet<&'static str> {
    BTreeSet::new()
}

fn shown(value: &str) -> Document {
    json!({ "a": value }).as_object().unwrap().clone()
}

fn deep(most: usize, at_once: usize) -> Deep {
    let most = Some((most, Duration::from_secs(60)));
    Deep::new(Share { interval: Duration::from_secs(3600), refused: Duration::from_secs(300), most, at_once })
}

fn names(turn: &[Wanted]) -> Vec<&str> {
    turn.iter().map(|one| &*one.key.name).collect()
}

fn next(deep: &Deep) -> Option<String> {
    deep.next().map(|(one, _)| {
        deep.read(&one, shown("x"));
        one.key.name.to_string()
    })
}

#[tokio::test(start_paused = true)]
async fn what_was_never_read_comes_first_and_the_share_is_kept() {
    let deep = deep(2, 9);
    deep.want(["a", "b", "c"].map(|name| wanted(name, 1)).to_vec(), &none());

    assert_eq!(names(&deep.at_once()), ["a", "b"]);
    for name in ["a", "b"] {
        assert_eq!(deep.read(&wanted(name, 1), shown("x")), News::First);
    }
    assert_eq!(next(&deep), None);
    assert_eq!(deep.due_at(), Some(Instant::now() + Duration::from_secs(60)));
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(next(&deep).as_deref(), Some("c"));
    assert_eq!(next(&deep), None, "nothing is due");
    tokio::time::advance(Duration::from_secs(3540)).await;
    assert_eq!([next(&deep), next(&deep), next(&deep)], [Some("a".to_owned()), Some("b".to_owned()), None]);
}

/// It was not read again before the interval of all was over, however loudly somebody asked.
#[tokio::test(start_paused = true)]
async fn what_was_refused_is_asked_for_again_in_turn_and_at_once_where_somebody_asks() {
    let deep = deep(9, 9);
    deep.want(["a", "b"].map(|name| wanted(name, 1)).to_vec(), &none());
    deep.failed(&wanted("a", 1), "not permitted".to_owned(), false);
    assert_eq!([next(&deep), next(&deep)], [Some("b".to_owned()), None], "what was never read comes first");

    tokio::time::advance(Duration::from_secs(300)).await;
    assert_eq!(names(&deep.at_once()), ["a"]);
    deep.failed(&wanted("a", 1), "not permitted".to_owned(), false);
    assert_eq!(next(&deep), None);

    deep.ask();

    assert_eq!([next(&deep), next(&deep), next(&deep)], [Some("b".to_owned()), Some("a".to_owned()), None]);
}

#[tokio::test(start_paused = true)]
async fn what_a_commit_changes_is_read_beyond_the_share() {
    let deep = deep(1, 2);
    deep.want(vec![wanted("a", 1)], &none());
    for one in deep.at_once() {
        deep.read(&one, shown("x"));
    }

    deep.want(vec![wanted("a", 2), wanted("b", 1), wanted("c", 1)], &none());

    let turn = deep.at_once();
    assert_eq!(names(&turn), ["a", "b"]);
    for one in &turn {
        deep.read(one, shown("x"));
    }
    assert_eq!(deep.next().map(|(one, is_urgent)| (one.key.name.to_string(), is_urgent)), Some(("c".into(), true)));
}

#[tokio::test(start_paused = true)]
async fn who_asks_sees_what_is_there_now() {
    let deep = deep(9, 9);
    deep.want(vec![wanted("a", 1)], &none());
    deep.read(&wanted("a", 1), shown("x"));
    tokio::time::advance(Duration::from_secs(1)).await;

    deep.want(vec![wanted("a", 1)], &none());
    assert_eq!(names(&deep.at_once()), Vec::<&str>::new());
    deep.ask();
    assert_eq!(names(&deep.at_once()), ["a"]);
}

/// What was held of it rested on what we had sent, and not on what Descope had made of that: another fingerprint than anybody
/// else saw.
#[tokio::test(start_paused = true)]
async fn what_we_made_is_read_before_another_declaration_of_it_is_compared() {
    let deep = deep(9, 9);
    deep.want(Vec::new(), &none());
    let key = |name: &str| Key::new("tenants", name);
    for name in ["a", "b"] {
        deep.wrote(&key(name), &PART, shown("old"), &shown("new"), 1);
    }

    deep.want(vec![wanted("a", 1), wanted("b", 2)], &none());

    assert_eq!(names(&deep.at_once()), ["b"], "the other one is what is declared");
    deep.read(&wanted("b", 2), shown("made of it"));
    deep.want(vec![wanted("a", 1), wanted("b", 2)], &none());
    assert!(deep.at_once().is_empty());
}

/// A read right after the write showed what was there before, and it was written once more.
#[tokio::test(start_paused = true)]
async fn a_read_that_lags_behind_our_write_proves_nothing() {
    let deep = deep(9, 9);
    deep.want(vec![wanted("a", 1)], &none());
    deep.read(&wanted("a", 1), shown("old"));
    deep.wrote(&Key::new("tenants", "a"), &PART, shown("old"), &shown("new"), 1);
    let kept = || deep.kept(&Key::new("tenants", "a"), "part");

    assert_eq!((deep.read(&wanted("a", 1), shown("old")), kept()), (News::None, Some(shown("new"))));
    assert_eq!(deep.settled(&Key::new("tenants", "a"), &PART, shown("old")), shown("new"));
    assert!(deep.is_unseen(&Key::new("tenants", "a")));
    assert_eq!(deep.due_at(), Some(Instant::now() + LAG));
    assert_eq!((deep.read(&wanted("a", 1), shown("third")), kept()), (News::Other, Some(shown("third"))));

    deep.wrote(
        &Key::new("tenants", "a"),
        &PART,
        shown("third"),
        &json!({ "a": "new", "key": {} }).as_object().unwrap().clone(),
        1,
    );
    assert_eq!(deep.read(&wanted("a", 1), shown("new")), News::None, "a secret comes back in no answer");
    deep.wrote(&Key::new("tenants", "a"), &PART, shown("third"), &shown("new"), 1);
    tokio::time::advance(LAG).await;
    assert_eq!((deep.read(&wanted("a", 1), shown("third")), kept()), (News::Other, Some(shown("third"))));
}

#[test]
fn a_reason_is_counted_as_long_as_something_fails_for_it() {
    let deep = Deep::new(Share::ALL);
    let (a, b) = (wanted("a", 1), wanted("b", 1));
    deep.want(vec![a.clone(), b.clone()], &BTreeSet::new());

    let fail = |one: &Wanted| deep.failed(one, "503".to_owned(), true);
    assert_eq!((fail(&a), fail(&b), fail(&a)), (1, 2, 3));
    // One is read again: the other one is still as it was.
    deep.read(&a, Document::new());
    assert_eq!(fail(&b), 4);
    deep.read(&b, Document::new());
    assert_eq!(fail(&b), 1);
}
