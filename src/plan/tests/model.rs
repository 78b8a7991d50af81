//! A kind with everything that a table can say: nested values, secrets, parts that are read apart.

use super::*;
use crate::descope::Call;
use crate::descope::Client;
use crate::plan::compare::Differences;
use crate::resource::Answer;
use crate::resource::Field;
use crate::resource::Item;
use crate::resource::Part;
use crate::resource::Shape;
use crate::resource::Spec;
use crate::resource::spec::How;
use crate::resource::spec::Identity;
use crate::resource::spec::Read;
use nonempty::NonEmpty;
use std::cell::RefCell;

const OIDC: &[Field] = &[
    Field::text("clientId"),
    Field::secret("clientSecret"),
    Field::flag("pkce").never_returned().omit_keeps(),
    Field::text("issuer").computed(),
];

static SPEC: Spec = Spec {
    name: "samples",
    identity: Identity::many("name").server_id("id"),
    parts: &[
        Part {
            name: MAIN,
            read: Read::List,
            how: How::Overwrite,
            fields: &[
                Field::name("name"),
                Field::name("id"),
                Field::secret("token").omit_keeps(),
                Field::object("limits", &[Field::integer("least", 0, 9), Field::integer("most", 0, 9)]),
                Field::of("labels", Shape::Map(&Shape::Set)),
                Field::items("mapping", &["from"], &[Field::text("from"), Field::text("to")]),
            ],
        },
        Part {
            name: "sso",
            read: Read::Each,
            how: How::Overwrite,
            fields: &[Field::of(
                "sso",
                Shape::Items {
                    key: &["ssoId"],
                    fields: &[Field::text("ssoId"), Field::object("oidc", OIDC)],
                    keeps: true,
                },
            )],
        },
    ],
    ..Spec::BASE
};

struct Samples;

#[async_trait::async_trait]
impl Kind for Samples {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn listing(&self) -> Call {
        crate::descope::script::list_roles()
    }
    async fn send(
        &self,
        _client: &Client,
        _part: &'static Part,
        _items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, descope::Error> {
        Ok(Vec::new())
    }
}

fn sample(fields: Value) -> Declared {
    let place = Place { file: "a.yaml".into(), line: 1, column: 1 };
    Declared { fields: document(fields).into(), ..Declared::new(Key::new("samples", "a"), place) }
}

/// What differs, and which secrets were asked for.
fn differences(declared: &Value, live: Option<&Value>, known: Sent) -> (Differences, Vec<String>) {
    let asked = RefCell::new(Vec::new());
    let secret = |_: &Key, path: &str, reference: &Value| {
        asked.borrow_mut().push(path.to_owned());
        if reference == &json!({ "env": "UNSET" }) { Err("it is not set".to_owned()) } else { Ok(known) }
    };
    let memory = compare::Recall { sent: &|_, _, _| known, document: &|_, _, _, _| false, secret: &secret };
    let live = live.cloned().map(document);
    let reading = compare::Reading { live: live.as_ref(), is_unlisted: false, returned: |_: &str| true };
    let found = compare::differences(&Samples, &sample(declared.clone()), &reading, &memory);
    (found, asked.take())
}

fn paths(found: &Differences) -> Vec<&str> {
    found.fields.iter().map(|change| &*change.path).collect()
}

#[test]
fn each_value_inside_is_compared_by_itself() {
    let live = json!({
        "name": "a", "id": "S1", "limits": { "least": 1, "most": "2", "other": 7 },
        "labels": { "x": ["1", "2"], "y": ["3"] }, "mapping": [{ "from": "b", "to": "B" }, { "from": "a", "to": "A" }],
        "sso": [{ "ssoId": "main", "oidc": { "clientId": "c", "issuer": "i" } }, { "ssoId": "other" }],
    });
    for (declared, expected) in [
        (json!({ "limits": { "least": 1, "most": 2 } }), vec![]),
        (json!({ "limits": { "most": 3 } }), vec!["limits.most"]),
        (json!({ "limits": null }), vec!["limits"]),
        (json!({ "labels": { "x": ["2", "1"], "gone": null } }), vec![]),
        (json!({ "labels": { "x": ["1"], "y": null, "z": ["4"] } }), vec!["labels.x", "labels.y", "labels.z"]),
        (json!({ "mapping": [{ "from": "a", "to": "A" }, { "from": "b", "to": "B" }] }), vec![]),
        (json!({ "mapping": [{ "from": "a", "to": "C" }] }), vec!["mapping[a].to", "mapping[b]"]),
        (json!({ "sso": [{ "ssoId": "main", "oidc": { "clientId": "c" } }] }), vec![]),
        (json!({ "sso": [{ "ssoId": "main", "oidc": { "clientId": "d" } }] }), vec!["sso[main].oidc.clientId"]),
        (
            json!({ "sso": [{ "ssoId": "new", "oidc": { "clientId": "d" } }] }),
            vec!["sso[new].ssoId", "sso[new].oidc.clientId"],
        ),
    ] {
        assert_eq!(paths(&differences(&declared, Some(&live), Sent::Same).0), expected, "{declared}");
    }
}

#[test]
fn a_secret_goes_by_what_was_sent_and_is_never_shown() {
    let declared = json!({ "token": { "env": "T" },
        "sso": [{ "ssoId": "main", "oidc": { "clientSecret": { "file": "s" }, "pkce": true } }] });
    let live = json!({ "name": "a", "sso": [{ "ssoId": "main", "oidc": { "clientSecret": "" } }] });

    let (found, asked) = differences(&declared, Some(&live), Sent::Same);
    assert_eq!((paths(&found), asked), (vec![], vec!["token".to_owned(), "sso[main].oidc.clientSecret".to_owned()]));

    for known in [Sent::Different, Sent::Unknown] {
        let (found, _) = differences(&declared, Some(&live), known);
        assert_eq!(paths(&found), ["token", "sso[main].oidc.clientSecret", "sso[main].oidc.pkce"]);
        assert!(found.fields[..2].iter().all(|change| change.to == json!("(secret)") && change.from.is_null()));
    }
    let (found, _) = differences(&declared, None, Sent::Same);
    assert!(paths(&found).contains(&"token"), "a new resource has none: {found:?}");
    let (found, _) = differences(&json!({ "token": { "env": "UNSET" } }), Some(&live), Sent::Same);
    assert_eq!(found.refusals, ["token: it is not set"]);
}

#[test]
fn a_part_that_was_never_read_is_pending_and_the_rest_goes_on() {
    let declared = json!({ "limits": { "most": 3 }, "sso": [{ "ssoId": "main" }] });

    let (found, _) = differences(&declared, Some(&json!({ "name": "a", "limits": { "most": 1 } })), Sent::Same);

    assert_eq!((paths(&found), &found.unread), (vec!["limits.most"], &vec!["sso"]));
}

fn writes_of(declared: Value, live: &Value, known: Sent) -> Vec<(&'static str, Value)> {
    let (found, _) = differences(&declared, Some(live), known);
    let live = document(live.clone());
    let writes = write::writes(&Samples, &sample(declared), Some(&live), None, &found.fields, false);
    writes.into_iter().map(|(part, write)| (part.name, json!(write.body()))).collect()
}

#[test]
fn an_overwriting_body_has_all_that_was_there_but_what_is_not_ours_to_send() {
    let live = json!({
        "name": "a", "id": "S1", "token": "", "limits": { "least": 1, "most": 2, "later": 7 }, "later": { "a": 1 },
        "labels": { "x": ["1"] },
        "sso": [{ "ssoId": "main", "oidc": { "clientId": "c", "clientSecret": "", "issuer": "i", "later": 1 } }, { "ssoId": "b" }],
    });
    let main = writes_of(
        json!({ "limits": { "most": 3 }, "labels": { "y": ["2"] }, "token": { "env": "T" } }),
        &live,
        Sent::Same,
    );
    let expected = json!({ "name": "a", "id": "S1", "limits": { "least": 1, "most": 3, "later": 7 }, "later": { "a": 1 },
        "labels": { "x": ["1"], "y": ["2"] } });
    assert_eq!(main, [(MAIN, expected)], "an unchanged secret that the API keeps is not sent");

    let secret = json!({ "file": "s" });
    let declared = json!({ "sso": [{ "ssoId": "main", "oidc": { "clientId": "d", "clientSecret": secret } }] });
    let expected = json!({ "sso": [
        { "ssoId": "b" },
        { "ssoId": "main", "oidc": { "clientId": "d", "clientSecret": secret, "later": 1 } },
    ] });
    assert_eq!(writes_of(declared, &live, Sent::Same), [("sso", expected)], "one that it resets is");
}

#[test]
fn what_would_be_reset_unseen_is_named() {
    let reset = |declared: Value| {
        let item = |id: &str| json!({ "ssoId": id, "oidc": { "clientId": "c" } });
        let live = json!({ "name": "a", "sso": [item("main"), item("other")] });
        let (found, _) = differences(&declared, Some(&live), Sent::Same);
        let (declared, live) = (sample(declared), document(live));
        let writes = write::writes(&Samples, &declared, Some(&live), None, &found.fields, false);
        let lost = write::unreadable_losses(&declared, Some(&live), |_| true, &writes, &found.fields);
        lost.first().map(|loss| (loss.field, loss.is_secret))
    };
    let oidc = |oidc: Value| json!({ "sso": [{ "ssoId": "main", "oidc": oidc }] });

    assert_eq!(reset(oidc(json!({ "clientId": "d" }))), Some(("clientSecret", true)));
    assert_eq!(reset(oidc(json!({ "clientId": "d", "clientSecret": { "env": "S" } }))), None);
    assert_eq!(reset(oidc(json!({ "clientId": "c" }))), None, "nothing is sent");
    let beside = json!({ "sso": [
        { "ssoId": "main", "oidc": { "clientId": "c" } },
        { "ssoId": "other", "oidc": { "clientId": "d", "clientSecret": { "env": "S" } } },
    ] });
    assert_eq!(reset(beside), Some(("clientSecret", true)), "one call carries all");
    assert_eq!(reset(json!({ "limits": { "most": 1 } })), None, "the API keeps the token");
}
