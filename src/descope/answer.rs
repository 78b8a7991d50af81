//! Tells a good answer from a bad one: HTTP status first, then the form.

use super::Document;
use super::Error;
use super::call::Call;
use super::call::Form;
use super::packed::Packed;
use super::transport::Response;
use crate::telemetry::line::is_unsafe;
use crate::telemetry::redact::Redactor;
use descope_gitops_reading::json;
use descope_gitops_reading::json::Read;
use reqwest::header::CONTENT_TYPE;
use reqwest::header::HeaderValue;
use reqwest::header::LOCATION;
use serde_json::Value;
use std::sync::Arc;

/// Longer messages are cut: they go to logs and to the status.
const LONGEST_MESSAGE: usize = 300;

/// What a key may not do, and what a plan has not: no source names the status of either.
const FORBIDDEN: [&str; 3] = ["E111008", "E111009", "E111703"];

/// So much of a message is looked through for secrets before it is cut.
const LONGEST_READ: usize = 64 * 1024;

/// `E` and six digits, with room.
const LONGEST_CODE: usize = 32;

/// Parsing more than this would keep the other tasks of a thread waiting.
const LARGE: usize = 1 << 20;

/// A good answer.
#[derive(Debug)]
pub enum Answer {
    Object(Document),
    /// The items of a list.
    List(Vec<Packed>),
}

/// What an answer that is not a 429 says.
pub async fn read(call: &Call, project_id: &str, redactor: &Redactor, response: Response) -> Result<Answer, Error> {
    let operation = call.operation();
    let status = response.status;
    let undocumented = |what: String| Error::Undocumented { operation, what: clean(&what, LONGEST_MESSAGE, redactor) };
    match status {
        200..=299 => {
            let (form, body) = (call.form(), response.body);
            let parsed = if body.len() < LARGE {
                parse(form, body)
            } else {
                let parsing = tokio::task::spawn_blocking(move || parse(form, body));
                parsing.await.unwrap_or_else(|_| Err("one that was not read to the end".to_owned()))
            };
            parsed.map_err(undocumented)
        }
        300..=399 => {
            let target = response.headers.get(LOCATION).map(|to| String::from_utf8_lossy(to.as_bytes()).into_owned());
            let to = target.map_or_else(String::new, |target| format!(" to {}", address(&target)));
            Err(undocumented(format!("a redirect{to} (status {status}); redirects are not followed, so check baseUrl")))
        }
        401 | 403 if is_page(&response.body) || claims_a_page(&response) => Err(Error::Blocked { operation, status }),
        401 => Err(Error::Unauthorized { project: clean(project_id, LONGEST_MESSAGE, redactor) }),
        400..=499 => {
            let (code, message) = refusal(&response.body, redactor);
            Err(if status == 403 || FORBIDDEN.contains(&&*code) {
                Error::Forbidden { operation, message }
            } else {
                Error::Rejected { operation, status, code, message }
            })
        }
        500..=599 => {
            let (_, message) = refusal(&response.body, redactor);
            Err(Error::Unavailable { operation, status, message })
        }
        _ => Err(undocumented(format!("status {status}"))),
    }
}

/// The answer, if it is of the form; otherwise what it is instead.
fn parse(form: Form, body: Vec<u8>) -> Result<Answer, String> {
    if body.trim_ascii().is_empty() {
        return match form {
            Form::Anything => Ok(Answer::Object(Document::new())),
            Form::Object | Form::List { .. } => Err("an empty body".to_owned()),
        };
    }
    let key = if let Form::List { key, .. } = form { Some(key) } else { None };
    let (document, list) = match json::answer(&body, key) {
        Ok(Read::Object(document, list)) => (document, list),
        Ok(Read::Array) => return Err("a bare array".to_owned()),
        Ok(Read::Null) => {
            return Err(match form {
                Form::List { key, .. } => format!("null {}", no_list(key)),
                Form::Anything | Form::Object => "null".to_owned(),
            });
        }
        Ok(Read::Value) => return Err("a bare value".to_owned()),
        Err(_) if is_page(&body) => return Err("an HTML page".to_owned()),
        Err(_) => return Err("not JSON".to_owned()),
    };
    // An error that something on the way gave the wrong status.
    if let Some(code) = document.get("errorCode").and_then(Value::as_str).filter(|code| !code.is_empty()) {
        return Err(format!("error {code} with a status of success"));
    }
    let Form::List { key, identity, tenant } = form else { return Ok(Answer::Object(document)) };
    let Some(items) = list else {
        return Err(match document.get(key) {
            None if document.is_empty() => format!("{{}} {}", no_list(key)),
            None => format!("an object {}", no_list(key)),
            Some(Value::Null) => format!("`{key}: null`, {}", no_list(key)),
            Some(_) => format!("`{key}` is no list"),
        });
    };
    let body = Arc::new(body);
    let mut packed = Vec::with_capacity(items.len());
    for (index, at) in items.into_iter().enumerate() {
        let item = Packed::part(&body, at);
        let who = json::who(item.text(), identity, tenant);
        if !who.has_identity {
            return Err(format!("item {index} of `{key}` without `{identity}`"));
        }
        if let Some(tenant) = tenant.filter(|_| who.has_odd_tenant) {
            return Err(format!("item {index} of `{key}` with an unreadable `{tenant}`"));
        }
        packed.push(item);
    }
    Ok(Answer::List(packed))
}

/// An empty project is answered with an empty list: what lacks the list may as well be a broken answer, and taking it for
/// "nothing is there" would make everything anew.
fn no_list(key: &str) -> String {
    format!("without the list `{key}`, which is not taken for an empty one")
}

/// HTML or XML; the API speaks JSON.
fn is_page(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"<")
}

/// The text of a 401 is not waited for: the header tells what it would be.
fn claims_a_page(response: &Response) -> bool {
    let kind = response.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    kind.trim_ascii_start().to_ascii_lowercase().starts_with(b"text/html")
}

/// Where a redirect leads, without what could hold a secret.
fn address(target: &str) -> String {
    let plain = target.split(['?', '#']).next().unwrap_or_default();
    match plain.split_once("://").map(|(scheme, rest)| (scheme, rest.split_once('/').unwrap_or((rest, "")))) {
        Some((scheme, (host, path))) => format!("{scheme}://{}/{path}", host.rsplit('@').next().unwrap_or_default()),
        None => plain.to_owned(),
    }
}

/// Code and message of a refusal, whatever its body is.
fn refusal(body: &[u8], redactor: &Redactor) -> (String, String) {
    let text = String::from_utf8_lossy(body);
    let Ok(Value::Object(document)) = serde_json::from_slice(body) else {
        let message = match text.trim_start() {
            "" => "no reason given",
            html if html.starts_with('<') => "an HTML page instead of a reason",
            text => text,
        };
        return (String::new(), clean(message, LONGEST_MESSAGE, redactor));
    };
    let field = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default();
    let (summary, detail) = (field("errorDescription"), field("errorMessage"));
    let message = match (summary, detail) {
        ("", "") if field("message").is_empty() => "no reason given".to_owned(),
        ("", "") => field("message").to_owned(),
        ("", only) | (only, "") => only.to_owned(),
        (summary, detail) if summary == detail => detail.to_owned(),
        (summary, detail) => format!("{summary}: {detail}"),
    };
    (clean(field("errorCode"), LONGEST_CODE, redactor), clean(&message, LONGEST_MESSAGE, redactor))
}

/// Text from outside as one bounded line without secrets and without characters that could forge or hide text.
pub fn clean(text: &str, longest: usize, redactor: &Redactor) -> String {
    // Before, for a secret with line breaks; after, for one that was broken up by what is taken out here.
    let text = redactor.redact_answer(beginning(text));
    let spaced: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    let line: String = spaced.chars().filter(|c| !is_unsafe(*c)).collect();
    let line = redactor.redact_answer(&line.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "));
    match line.char_indices().nth(longest) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    }
}

/// As much as is worth reading of what is as long as it likes.
fn beginning(text: &str) -> &str {
    let end = (0..=LONGEST_READ.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::super::call::deletion;
    use super::super::script::list_roles;
    use super::super::script::list_tenants;
    use super::*;
    use proptest::prelude::*;
    use secrecy::SecretString;
    use serde_json::json;

    fn knowing(secret: &str) -> Redactor {
        let redactor = Redactor::new();
        redactor.add(&SecretString::from(secret));
        redactor
    }

    async fn answered(call: &Call, status: u16, body: &str) -> Result<Answer, Error> {
        let response = Response { status, headers: reqwest::header::HeaderMap::new(), body: body.into() };
        read(call, "P2abc", &knowing("K2secret"), response).await
    }

    #[tokio::test]
    async fn a_list_is_read_only_in_its_documented_form() {
        let cases = [
            (r#"{"roles":[]}"#, Ok(())),
            (r#" {"roles":[{"name":"a"},{"name":"a","tenantId":null},{"name":"b","tenantId":"t"}]} "#, Ok(())),
            ("", Err("an empty body")),
            (" \r\n", Err("an empty body")),
            ("<!doctype html><title>Sign in</title>", Err("an HTML page")),
            ("[]", Err("a bare array")),
            ("\"ok\"", Err("a bare value")),
            ("null", Err("null without the list `roles`, which is not taken for an empty one")),
            ("7", Err("a bare value")),
            ("{", Err("not JSON")),
            (r#"{"roles":[{"name":"a"}"#, Err("not JSON")),
            (r#"{"roles":[]}{"roles":[]}"#, Err("not JSON")),
            ("{}", Err("{} without the list `roles`, which is not taken for an empty one")),
            (r#"{"permissions":[]}"#, Err("an object without the list `roles`, which is not taken for an empty one")),
            (r#"{"roles":null}"#, Err("`roles: null`, without the list `roles`, which is not taken for an empty one")),
            (r#"{"roles":{}}"#, Err("`roles` is no list")),
            (r#"{"roles":[{"name":"a"},7]}"#, Err("item 1 of `roles` without `name`")),
            (r#"{"roles":[{"name":""}]}"#, Err("item 0 of `roles` without `name`")),
            (r#"{"roles":[{"name":7}]}"#, Err("item 0 of `roles` without `name`")),
            (r#"{"roles":[{"name":"a","tenantId":7}]}"#, Err("item 0 of `roles` with an unreadable `tenantId`")),
            (r#"{"errorCode":"E011001","roles":[]}"#, Err("error E011001 with a status of success")),
        ];
        for (body, expected) in cases {
            let found = answered(&list_roles(), 200, body).await.map(|_| ());
            let expected = expected
                .map_err(|what| Error::Undocumented { operation: "GET /v1/mgmt/role/all", what: what.to_owned() });
            assert_eq!(found, expected, "{body}");
        }
    }

    #[tokio::test]
    async fn a_write_may_be_answered_with_nothing_but_not_with_a_web_page() {
        let write =
            Call::delete(deletion!(POST "/v1/mgmt/tenant/delete"), "id", super::super::Name::new("acme").unwrap());

        assert!(answered(&write, 200, "").await.is_ok());
        assert!(answered(&write, 204, "").await.is_ok());
        assert!(answered(&write, 200, "{}").await.is_ok());
        for body in ["<html>", "[]", "OK", "true"] {
            assert!(answered(&write, 200, body).await.is_err_and(|e| e.may_have_taken_effect()), "{body}");
        }
        assert!(answered(&write, 302, "").await.is_err_and(|e| e.may_have_taken_effect() && e.is_transient()));
    }

    #[tokio::test]
    async fn a_redirect_names_its_target_without_what_may_be_a_secret() {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert(LOCATION, "https://user:pass@login.example.com/sso?token=abc#x".parse().unwrap());
        let response = Response { status: 307, headers, body: Vec::new() };

        let error = read(&list_roles(), "P2abc", &knowing("K2secret"), response).await.unwrap_err();

        assert_eq!(
            error.to_string(),
            "the answer to GET /v1/mgmt/role/all is not one that Descope documents: a redirect to \
             https://login.example.com/sso (status 307); redirects are not followed, so check baseUrl"
        );
    }

    #[tokio::test]
    async fn a_refusal_that_is_a_web_page_is_none_of_the_key() {
        for status in [401, 403] {
            let error = answered(&list_roles(), status, "\n<!doctype html><h1>Forbidden</h1>").await.unwrap_err();

            assert_eq!(error, Error::Blocked { operation: "GET /v1/mgmt/role/all", status });
            assert!(error.is_forbidden() && !error.is_transient() && error.may_have_taken_effect());
        }
        let headers = [(CONTENT_TYPE, HeaderValue::from_static("Text/HTML; charset=utf-8"))].into_iter().collect();
        let response = Response { status: 401, headers, body: Vec::new() };
        let error = read(&list_roles(), "P2abc", &knowing("K2secret"), response).await.unwrap_err();
        assert!(matches!(error, Error::Blocked { status: 401, .. }));
    }

    #[tokio::test]
    async fn a_large_list_is_read() {
        let items: Vec<String> = (0..100_000).map(|n| format!(r#"{{"id":"t{n}","name":"Tenant {n}"}}"#)).collect();
        let body = format!(r#"{{"tenants":[{}]}}"#, items.join(","));

        let found = answered(&list_tenants(), 200, &body).await.unwrap();

        let Answer::List(found) = found else { panic!("no list") };
        assert_eq!(found.len(), 100_000);
        assert_eq!(found[99_999].read().unwrap()["name"], "Tenant 99999");
    }

    #[tokio::test]
    async fn an_item_is_what_stands_there_however_it_is_written() {
        for body in [
            r#"{"total":2,"roles":[{"name":"é\u0061\"","x":{"y":[1,{}]}} , {"name":"b"}]}"#,
            "\n{ \"roles\" : [\n {\"name\": \"é\\u0061\\\"\", \"x\": {\"y\":\t[1, {}]}},{\"name\":\"b\"}\n] , \"more\": null }\n",
            r#"{"roles":[{"name":"old"}],"rol\u0065s":[{"name":"z","x":{"y":[1,{}]},"name":"é\u0061\""},{"name":"b"}]}"#,
        ] {
            let Ok(Answer::List(found)) = answered(&list_roles(), 200, body).await else { panic!("{body}") };

            let found: Vec<Value> = found.iter().map(|item| Value::Object(item.read().unwrap())).collect();
            assert_eq!(found, [json!({ "name": "éa\"", "x": { "y": [1, {}] } }), json!({ "name": "b" })], "{body}");
        }
    }

    #[tokio::test]
    async fn a_refusal_says_what_the_api_says() {
        let cases = [
            (
                r#"{"errorCode":"E011003","errorDescription":"Request is invalid","errorMessage":"no name"}"#,
                "E011003",
                "Request is invalid: no name",
            ),
            (r#"{"errorCode":"E011003","errorDescription":"same","errorMessage":"same"}"#, "E011003", "same"),
            (r#"{"errorDescription":"only"}"#, "", "only"),
            (r#"{"message":"plain"}"#, "", "plain"),
            (r#"{"errorCode":7,"errorMessage":["x"]}"#, "", "no reason given"),
            ("", "", "no reason given"),
            ("<html>blocked</html>", "", "an HTML page instead of a reason"),
            ("upstream\r\n\tsays \u{1b}[31mno\u{202e}", "", "upstream says [31mno"),
            (r#"{"errorMessage":"your key K2secret, K2\u0000secret"}"#, "", "your key (secret), (secret)"),
        ];
        for (body, code, message) in cases {
            let error = answered(&list_roles(), 400, body).await.unwrap_err();
            let expected = Error::Rejected {
                operation: "GET /v1/mgmt/role/all",
                status: 400,
                code: code.to_owned(),
                message: message.to_owned(),
            };
            assert_eq!(error, expected, "{body}");
        }
    }

    #[tokio::test]
    async fn the_status_decides_what_kind_of_failure_it_is() {
        let call = list_roles();
        for (status, transient, effect) in [
            (401, false, false),
            (403, false, false),
            (404, false, false),
            (409, false, false),
            (500, true, true),
            (503, true, true),
            (520, true, true),
            (530, true, true),
            (307, true, true),
            (600, true, true),
        ] {
            let error = answered(&call, status, "{}").await.unwrap_err();
            assert_eq!((error.is_transient(), error.may_have_taken_effect()), (transient, effect), "{status}");
        }
    }

    proptest! {
        #[test]
        fn no_body_is_taken_for_a_list_unless_it_is_one(body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64),
            "[\\[\\]{}:,\"a-z0-9 ]{0,64}".prop_map(String::into_bytes),
        ]) {
            prop_assert!(parse(list_roles().form(), body).is_err());
        }

        #[test]
        fn a_clean_text_is_one_bounded_line_without_the_secret(before in any::<String>(), after in any::<String>()) {
            let text = clean(&format!("{before}K2secret{after}"), 50, &knowing("K2secret"));

            prop_assert!(text.chars().count() <= 51);
            prop_assert!(!text.contains("K2secret") && !text.contains(char::is_control));
        }
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let cut = clean(&"é".repeat(500), 300, &Redactor::new());

        assert_eq!(cut, "é".repeat(300) + "…");
    }
}
