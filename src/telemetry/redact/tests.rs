use super::*;
use proptest::prelude::*;
use std::fmt::Write;

fn knowing(secrets: &[&str]) -> Redactor {
    let redactor = Redactor::new();
    for secret in secrets {
        redactor.add(&SecretString::from(*secret));
    }
    redactor
}

#[test]
fn a_secret_is_masked_wherever_it_stands() {
    let redactor = knowing(&["K2secret"]);

    assert_eq!(redactor.redact("Bearer P2:K2secret, K2secret!"), "Bearer P2:(secret), (secret)!");
    assert_eq!(redactor.redact("nothing here"), "nothing here");
}

#[test]
fn a_secret_that_contains_another_is_masked_whole() {
    assert_eq!(knowing(&["abcd", "abcdefgh"]).redact("abcdefgh abcd"), "(secret) (secret)");
}

#[test]
fn quoting_and_encoding_do_not_hide_a_secret() {
    let plain = "a\"b\\c\nd/é";
    let redactor = knowing(&[plain]);

    assert_eq!(redactor.redact(&serde_json::json!({ "m": plain }).to_string()), r#"{"m":"(secret)"}"#);
    assert_eq!(redactor.redact(&format!("{plain:?}")), "\"(secret)\"");
    assert_eq!(redactor.redact("?q=a%22b%5Cc%0Ad%2F%C3%A9"), "?q=(secret)");
}

/// Each was written so by what quoted it, and came through: Go's encoder of JSON writes `&`, `<` and `>` as `\u0026` and so on.
#[test]
fn no_spelling_of_a_secret_comes_through() {
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----";
    for (secret, written, left) in [
        ("pa&ss<wo>rd-0123", r"pa\u0026ss\u003cwo\u003Erd-0123", "(secret)"),
        ("pässwörd-0123", r"p\u00e4ssw\u00F6rd-0123", "(secret)"),
        ("pass😀word", r"pass\ud83d\ude00word", "(secret)"),
        ("pass/word-0123", r"pass\/word-0123", "(secret)"),
        ("pa\"ss\\word-0123", r#"pa\\\"ss\\\\word-0123"#, "(secret)"),
        ("pass/word+0123 x", "pass%2fword%2b0123%20x", "(secret)"),
        ("pass word/0123", "pass+word%2F0123", "(secret)"),
        ("pa\"ss&word", "pa&#34;ss&amp;word", "(secret)"),
        ("pass\tword", r"pass\tword", "(secret)"),
        ("one-abcdef\ntwo-abcdef", "one-abcdef two-abcdef", "(secret)"),
        (" pass-word ", "pass-word", "(secret)"),
        ("pass-word", "PASS-WORD", "(secret)"),
        (PEM, "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "(secret)"),
        (PEM, "MIIEvQIBADAN…", "(secret)…"),
        ("Zq9-alpha/secret+value==", "Zq9-alpha/secret+valu…", "(secret)…"),
        ("Zq9-alpha/secret+value==", "…-alpha/secret+value==", "…(secret)"),
        ("pass-word", "cGFzcy13b3Jk", "(secret)"),
        // `client:pass-word`: the first of its characters belongs to the colon as well.
        ("pass-word", "Y2xpZW50OnBhc3Mtd29yZA==", "Y2xpZW50On(secret)A=="),
        ("pass-word", "706173732d776f7264", "(secret)"),
        ("pass-word", "706173732D776F7264", "(secret)"),
    ] {
        let said = knowing(&[secret]).redact(&format!("invalid: \"{written}\"."));

        assert_eq!(said, format!("invalid: \"{left}\"."), "{secret:?}");
    }
}

#[test]
fn a_short_secret_does_not_blank_out_ordinary_words_but_is_not_told_by_an_answer() {
    let redactor = knowing(&["the"]);

    assert_eq!(redactor.redact("the tenant"), "the tenant");
    assert_eq!(
        redactor.redact_answer("\"the\" is too short, other ones are not"),
        "\"(secret)\" is too short, other ones are not"
    );
}

#[test]
fn what_a_secret_shares_with_a_message_is_no_secret() {
    let redactor = knowing(&[
        "production-management-key",
        "https://hooks.example.com/services/T0/B0/XyZ",
        "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----",
    ]);
    for text in [
        "Descope refused the management key of production",
        "cannot reach https://hooks.example.com",
        "is no PRIVATE KEY",
        "the production management key",
    ] {
        assert_eq!(redactor.redact(text), text);
    }
}

#[test]
fn clones_learn_together_and_debug_output_tells_nothing() {
    let redactor = Redactor::new();
    let clone = redactor.clone();

    redactor.add(&SecretString::from("K2secret"));
    redactor.add(&SecretString::from("K2secret"));

    assert_eq!(clone.redact("K2secret"), "(secret)");
    assert_eq!(format!("{clone:?}"), "Redactor(1 secrets)");
}

/// It would take the square of the lengths, so nothing at all is told.
#[test]
fn what_repeats_itself_takes_no_longer() {
    let secret = "a".repeat(20_000) + "b";

    assert_eq!(knowing(&[&secret]).redact(&"a".repeat(20_000)), MASK);
}

// What quotes, written as its own specification has it and apart from what takes it off.

fn escaped(plain: &str, is_escaped: fn(char) -> bool, write: fn(&mut String, char)) -> String {
    let mut out = String::new();
    for c in plain.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out += "\\n",
            '\t' => out += "\\t",
            c if is_escaped(c) => write(&mut out, c),
            c => out.push(c),
        }
    }
    out
}

fn go(plain: &str) -> String {
    escaped(plain, |c| "&<>".contains(c), |out, c| write!(out, "\\u{:04x}", u32::from(c)).unwrap())
}

fn ascii(plain: &str) -> String {
    let units = |out: &mut String, c: char| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04X}").unwrap();
        }
    };
    escaped(plain, |c| !c.is_ascii(), units)
}

fn slashed(plain: &str) -> String {
    escaped(plain, |c| c == '/', |out, _| *out += "\\/")
}

fn printed(plain: &str) -> String {
    let quoted = format!("{plain:?}");
    quoted[1..quoted.len() - 1].to_owned()
}

fn percent(plain: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let encode = |byte: u8| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    plain.bytes().map(encode).collect()
}

fn percent_lower(plain: &str) -> String {
    plain.bytes().fold(String::new(), |mut out, byte| {
        write!(out, "%{byte:02x}").unwrap();
        out
    })
}

fn html(plain: &str) -> String {
    plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;").replace('\'', "&#x27;")
}

fn as_it_is(plain: &str) -> String {
    plain.to_owned()
}

const SPELLINGS: [fn(&str) -> String; 8] = [as_it_is, go, ascii, slashed, printed, percent, percent_lower, html];

proptest! {
    /// What stands around it shares no character with it, so that what is left of it shows.
    #[test]
    fn nothing_is_left_of_a_secret_however_it_is_quoted(
        secret in r#"[a-zA-Z0-9&<>"'/%\\;#äé😀 \n\t+=-]{4,40}"#,
        ways in prop::collection::vec(0..SPELLINGS.len(), 1..=3),
        before in "[ΑΒΓ]{0,9}",
        after in "[ΑΒΓ]{0,9}",
    ) {
        let written = ways.iter().fold(secret.clone(), |text, way| SPELLINGS[*way](&text));

        let said = knowing(&[&secret]).redact(&format!("{before}{written}{after}"));

        prop_assert_eq!(said, format!("{before}{MASK}{after}"), "{:?}", written);
    }

    #[test]
    fn a_secret_that_is_cut_shows_no_more_than_the_rest_of_a_character(
        secret in "[a-zA-Z0-9/=-]{13,40}",
        len in 12..40_usize,
        way in 0..SPELLINGS.len(),
        is_first: bool,
    ) {
        let len = len.min(secret.len());
        let part = if is_first { &secret[..len] } else { &secret[secret.len() - len..] };

        let said = knowing(&[&secret]).redact(&format!("Α {}… Β", SPELLINGS[way](part)));

        prop_assert_eq!(said, format!("Α {MASK}… Β"));
    }

    // A secret with a quote in it may read like the line itself: then it is taken out as well.
    #[test]
    fn a_line_of_json_stays_one(secret in r"[a-c\\n/]{4,20}", text in r#"[a-c\\"n/\n]{0,60}"#) {
        let line = serde_json::json!({ "message": format!("{text}{secret}{text}") }).to_string();

        let said = knowing(&[&secret]).redact(&line);

        let read: Result<serde_json::Value, _> = serde_json::from_str(&said);
        prop_assert!(read.is_ok(), "{line} became {said}");
    }
}
