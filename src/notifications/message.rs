//! How a message reads: JSON of our own, or what Slack and its like take. Bounded, and without secrets.

use super::ledger::Letter;
use super::ledger::Thing;
use crate::config::Form;
use crate::config::Notice;
use crate::telemetry::line::one_line;
use crate::telemetry::redact::Redactor;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

/// A message names so many things; the rest is counted.
const MOST: usize = 20;

/// Of the text of one thing.
const LONGEST: usize = 500;

/// Slack takes 3,000 characters in a block.
const LONGEST_BLOCK: usize = 2_900;

/// What a webhook gets.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    format_version: u32,
    /// `held`, `failing`, `contested`, `lease_lost`, `recovered` or `test`.
    event: &'static str,
    /// As the config calls it; null where it is about none.
    project: Option<String>,
    /// RFC 3339: when it was sent.
    at: String,
    /// All of it in a line.
    text: String,
    /// The first of what there is to tell.
    items: Vec<Item>,
    /// So many are not among them.
    more: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Item {
    /// The same in the message that says that it is over.
    key: String,
    /// What began, or what is over.
    event: &'static str,
    /// What it is about: a resource, a guard, ...
    subject: String,
    /// In a word of a closed set.
    reason: Option<String>,
    /// RFC 3339.
    since: String,
    /// RFC 3339: when it was seen to be over, however late that can be told; null while it lasts.
    until: Option<String>,
    /// For people.
    text: String,
    /// What to approve, where an approval ends it.
    fingerprint: Option<String>,
}

/// The body of a message that is sent at this time (RFC 3339).
pub fn body(form: Form, letter: &Letter, at: &str, redactor: &Redactor) -> Vec<u8> {
    let title = title(letter);
    let things: Vec<&Thing> = letter.things.iter().take(MOST).collect();
    let more = letter.things.len() - things.len();
    let clean = |text: &str| cut(&one_line(&redactor.redact(text)), LONGEST);
    let text = |thing: &Thing| match (&thing.facts, letter.event) {
        (_, Notice::Recovered) => format!("over: {}", thing.identity.event.as_str()),
        (Some(facts), _) => facts.text.clone(),
        (None, _) => String::new(),
    };
    let body = match form {
        Form::Webhook => {
            let item = |thing: &&Thing| {
                let is_over = letter.event == Notice::Recovered;
                Item {
                    key: clean(&thing.identity.key()),
                    event: thing.identity.event.as_str(),
                    subject: clean(&thing.identity.subject),
                    reason: thing.facts.as_ref().map(|facts| facts.reason.clone()),
                    since: thing.since.clone(),
                    until: is_over.then(|| thing.until.clone().unwrap_or_else(|| at.to_owned())),
                    text: clean(&text(thing)),
                    fingerprint: thing.facts.as_ref().filter(|_| !is_over).and_then(|facts| facts.fingerprint.clone()),
                }
            };
            json!(Message {
                format_version: 1,
                event: letter.event.as_str(),
                project: project(letter).map(str::to_owned),
                at: at.to_owned(),
                text: title,
                items: things.iter().map(item).collect(),
                more,
            })
        }
        Form::Slack => {
            let mut lines = vec![format!("*{}*", escaped(&title))];
            lines.extend(things.iter().map(|thing| {
                format!(
                    "• `{}` {}",
                    escaped(&clean(&thing.identity.subject)).replace('`', "'"),
                    escaped(&clean(&text(thing)))
                )
            }));
            if more > 0 {
                lines.push(format!("and {more} more"));
            }
            let release = letter.things.iter().find_map(|thing| thing.facts.as_ref()?.fingerprint.as_ref());
            // What was told before is void with each of these.
            let next = |fingerprint: &String| match letter.event {
                Notice::Held => Some(format!("release with `descope-gitops approve {fingerprint}`")),
                Notice::Contested => Some(format!(
                    "settle who sets it; `descope-gitops approve {fingerprint}` releases all that is held, and sets it once more"
                )),
                Notice::Failing | Notice::Recovered | Notice::LeaseLost => None,
            };
            lines.extend(release.and_then(next).map(|next| format!("Look with `descope-gitops plan`, {next}.")));
            slack(&title, &cut(&lines.join("\n"), LONGEST_BLOCK))
        }
    };
    body.to_string().into_bytes()
}

/// The body of a message that only shows that messages arrive.
pub fn test(form: Form, at: &str) -> Vec<u8> {
    let text = "descope-gitops: a test, nothing is wrong";
    let body = match form {
        Form::Webhook => {
            let (at, text) = (at.to_owned(), text.to_owned());
            json!(Message { format_version: 1, event: "test", project: None, at, text, items: Vec::new(), more: 0 })
        }
        Form::Slack => slack(text, text),
    };
    body.to_string().into_bytes()
}

fn slack(fallback: &str, text: &str) -> Value {
    json!({
        "text": escaped(fallback),
        "blocks": [{ "type": "section", "text": { "type": "mrkdwn", "text": text } }],
    })
}

fn project(letter: &Letter) -> Option<&str> {
    Some(letter.project.as_str()).filter(|name| !name.is_empty())
}

fn title(letter: &Letter) -> String {
    let count = letter.things.len();
    let (one, many) = match letter.event {
        Notice::Held => ("a guard holds changes", "things are held by guards"),
        Notice::Failing => ("something does not go ahead", "things do not go ahead"),
        Notice::Contested => ("a resource is reverted again and again", "resources are reverted again and again"),
        Notice::LeaseLost => ("a lease was lost", "leases were lost"),
        Notice::Recovered => ("it is over", "things are over"),
    };
    let what = if count == 1 { one.to_owned() } else { format!("{count} {many}") };
    format!("descope-gitops, {}: {what}", project(letter).unwrap_or("all projects"))
}

/// Slack reads these three as its own: a name must not call a channel.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most - 1).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notifications::sight::Facts;
    use crate::notifications::sight::Identity;
    use secrecy::SecretString;

    fn letter(event: Notice, subjects: &[&str]) -> Letter {
        let thing = |subject: &&str| Thing {
            identity: Identity {
                project: "p".to_owned(),
                event: if event == Notice::Recovered { Notice::Held } else { event },
                subject: (*subject).to_owned(),
            },
            facts: Some(Facts {
                reason: "max_deletes".to_owned(),
                text: "said K2secret\n<!channel>".to_owned(),
                since: None,
                fingerprint: Some("f00d".to_owned()),
                is_transient: false,
                what: String::new(),
            }),
            since: "2026-01-01T00:00:00Z".to_owned(),
            until: (event == Notice::Recovered).then(|| "2026-01-01T12:00:00Z".to_owned()),
        };
        Letter { event, project: "p".to_owned(), things: subjects.iter().map(thing).collect() }
    }

    fn read(form: Form, letter: &Letter) -> Value {
        let redactor = Redactor::new();
        redactor.add(&SecretString::from("K2secret"));
        serde_json::from_slice(&body(form, letter, "2026-01-02T00:00:00Z", &redactor)).unwrap()
    }

    #[test]
    fn the_webhook_gets_what_why_since_when_and_what_releases_it() {
        let expected = json!({
            "formatVersion": 1, "event": "held", "project": "p", "at": "2026-01-02T00:00:00Z",
            "text": "descope-gitops, p: a guard holds changes", "more": 0,
            "items": [{ "key": "p/held/max_deletes", "event": "held", "subject": "max_deletes", "reason": "max_deletes",
                "since": "2026-01-01T00:00:00Z", "until": null, "text": "said (secret)\\n<!channel>", "fingerprint": "f00d" }],
        });

        assert_eq!(read(Form::Webhook, &letter(Notice::Held, &["max_deletes"])), expected);
        let over = read(Form::Webhook, &letter(Notice::Recovered, &["max_deletes"]));
        let item = &over["items"][0];
        assert_eq!(
            (&over["event"], &item["key"], &item["until"]),
            (&json!("recovered"), &expected["items"][0]["key"], &json!("2026-01-01T12:00:00Z"))
        );
        assert!(item["fingerprint"].is_null());
    }

    #[test]
    fn slack_gets_text_that_calls_nobody() {
        let message = read(Form::Slack, &letter(Notice::Held, &["<!here>`x"]));

        let text = message["blocks"][0]["text"]["text"].as_str().unwrap();
        assert_eq!(
            text,
            "*descope-gitops, p: a guard holds changes*\n• `&lt;!here&gt;'x` said (secret)\\n&lt;!channel&gt;\n\
             Look with `descope-gitops plan`, release with `descope-gitops approve f00d`."
        );
        assert_eq!(message["text"], "descope-gitops, p: a guard holds changes");
        // It voids the command of the message before.
        for (event, has_command) in [(Notice::Contested, true), (Notice::Failing, false), (Notice::Recovered, false)] {
            let message = read(Form::Slack, &letter(event, &["roles/r"]));
            let text = message["blocks"][0]["text"]["text"].as_str().unwrap();
            assert_eq!(text.contains("approve f00d"), has_command, "{text}");
        }
    }

    #[test]
    fn a_message_is_bounded_however_much_there_is_to_tell() {
        let subjects: Vec<String> = (0..90).map(|n| format!("tenants/{n}{}", "x".repeat(3000))).collect();
        let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();

        let webhook = read(Form::Webhook, &letter(Notice::Failing, &subjects));
        assert_eq!((webhook["items"].as_array().unwrap().len(), &webhook["more"]), (20, &json!(70)));
        assert!(webhook.to_string().len() < 40_000);
        let slack = read(Form::Slack, &letter(Notice::Failing, &subjects));
        assert!(slack["blocks"][0]["text"]["text"].as_str().unwrap().chars().count() < 3_000);
    }
}
