use super::*;
use proptest::prelude::*;

fn one(text: &str) -> Value {
    let (mut documents, faults) = parse(text);
    assert_eq!(faults, Faults::default());
    assert_eq!(documents.len(), 1);
    documents.remove(0).value
}

fn faults(text: &str) -> Vec<String> {
    parse(text).1.kept.into_iter().map(|fault| format!("{}: {}", fault.at.line, fault.message)).collect()
}

#[test]
fn plain_scalars_follow_the_core_schema_of_yaml_1_2() {
    let text = |s: &str| Value::Text(s.to_owned());
    let integer = |n: i64| Value::Number(n.into());
    let float = |n: f64| Value::Number(Number::from_f64(n).unwrap());
    for (source, value) in [
        ("no", text("no")),
        ("yes", text("yes")),
        ("on", text("on")),
        ("'12'", text("12")),
        ("!!str 12", text("12")),
        ("! 12", text("12")),
        ("012", integer(12)),
        ("+12", integer(12)),
        ("-12", integer(-12)),
        ("0x1F", integer(31)),
        ("0o17", integer(15)),
        ("1_000", text("1_000")),
        ("1.5", float(1.5)),
        (".5", float(0.5)),
        ("1e3", float(1000.0)),
        ("1.", float(1.0)),
        (".", text(".")),
        ("1e", text("1e")),
        ("1.2.3", text("1.2.3")),
        ("10.0.0.0/8", text("10.0.0.0/8")),
        ("12:30:45", text("12:30:45")),
        ("2024-01-01", text("2024-01-01")),
        ("~", Value::Null),
        ("NULL", Value::Null),
        ("TRUE", Value::Flag(true)),
        ("False", Value::Flag(false)),
        ("-", Value::List(vec![Node { at: At { line: 1, column: 2 }, value: Value::Null }])),
    ] {
        assert_eq!(one(source), value, "{source}");
    }
}

#[test]
fn what_yaml_allows_but_a_config_repo_must_not_hold_is_named_with_its_line() {
    for (source, expected) in [
        ("a: 1\nb: 2\na: 3\n", vec!["3: the key `a` stands here twice, first on line 1; keep one"]),
        (
            "x: &x {a: 1}\ny:\n  <<: *x\n  b: 2\n",
            vec!["3: merge keys (`<<`) are not supported; write the fields out, or use an alias as a value"],
        ),
        ("a: .nan\n", vec!["1: `.nan` is not a value that Descope can hold; put it in quotes"]),
        ("- -.inf\n", vec!["1: `.inf` is not a value that Descope can hold; put it in quotes"]),
        ("a: 99999999999999999999\n", vec!["1: the number is too big to be kept exactly; put it in quotes"]),
        ("a: 1e999\n", vec!["1: the number is too big to be kept exactly; put it in quotes"]),
        ("1: a\n", vec!["1: a key must be a text but is a number; put it in quotes"]),
        ("true: a\n", vec!["1: a key must be a text but is a boolean; put it in quotes"]),
        ("? [a]\n: b\n", vec!["1: a key must be a text but is a list"]),
        ("a: !vault x\n", vec!["1: tags (`!name`) are not supported; take the tag out"]),
        ("a: !mine [x]\n", vec!["1: tags (`!name`) are not supported; take the tag out"]),
        ("a: &a [*a]\n", vec!["1: the alias stands inside its own anchor, so it would never end"]),
        (
            "%YAML 1.1\n---\na: no\n",
            vec![
                "1: asks for the rules of YAML 1.1, but is read by those of 1.2; see that its values mean the same there (`no` is a text, `010` is ten), and take the line out",
            ],
        ),
        ("a:\n\tb: c\n", vec!["2: is not YAML: tabs disallowed within this context (block indentation)"]),
        ("a: b\0c\n", vec!["1: holds a NUL byte: the file is damaged or not text"]),
    ] {
        assert_eq!(faults(source), expected, "{source}");
    }
}

#[test]
fn several_faults_are_reported_together() {
    assert_eq!(faults("a: .inf\n2: b\nc: !x y\n").len(), 3);
}

#[test]
fn a_tab_after_a_colon_is_a_blank() {
    assert_eq!(one("- a:\tb\n  c:\t\td\n- {e:\tf}\n"), one("- a: b\n  c:  d\n- {e: f}\n"));
    assert_eq!(one("- a:\t|\n  x:\ty\n"), one("- a: |\n  x:\ty\n"));
}

#[test]
fn anchors_and_aliases_are_expanded() {
    assert_eq!(one("- &x {a: [b]}\n- *x\n"), one("- {   a: [b]}\n- \n  a: [b]\n").with_line_of_first());
}

impl Value {
    fn with_line_of_first(mut self) -> Self {
        if let Self::List(nodes) = &mut self {
            let mut copy = nodes[0].clone();
            copy.at.line = 2;
            nodes[1] = copy;
        }
        self
    }
}

#[test]
fn a_billion_laughs_end_early() {
    use std::fmt::Write;
    let mut text = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for n in 1..12 {
        let refs = vec![format!("*a{}", n - 1); 10].join(", ");
        writeln!(text, "a{n}: &a{n} [{refs}]").unwrap();
    }

    assert_eq!(
        faults(&text),
        ["6: the aliases of this file expand to far more than they should; write the values out"]
    );
}

#[test]
fn deep_nesting_ends_early() {
    assert_eq!(faults(&"[".repeat(100)), ["1: nests deeper than 32 levels"]);
    assert_eq!(faults(&"[".repeat(100_000)), ["1: is not YAML: recursion limit exceeded"]);
    assert_eq!(faults(&"- ".repeat(5_000)), ["1: nests deeper than 32 levels"]);
}

/// A megabyte of the shortest values took twenty in memory, and a file may have 64.
#[test]
fn very_many_values_end_early() {
    let text = "roles:\n- a\n- b\n";

    assert_eq!(parse_within(text, 5).1, Faults::default());
    let (documents, faults) = parse_within(text, 4);
    assert!(documents.is_empty());
    assert_eq!(faults.kept[0].message, "the file holds far too many values for one; split it");
}

#[test]
fn a_syntax_error_keeps_the_documents_before_it() {
    let (documents, faults) = parse("a: 1\n---\nb: [1\nc: 2\n");

    assert_eq!(documents.len(), 1);
    assert_eq!(faults.kept.len(), 1);
    assert!(faults.kept[0].message.starts_with("is not YAML: "), "{faults:?}");
}

#[test]
fn what_ends_too_early_is_wrong_on_its_last_line() {
    for text in ["a: 1\nb: { c", "a: 1\nb: { c\n", "a: 1\nb: \"c\n"] {
        let faults = parse(text).1.kept;

        assert_eq!(faults.len(), 1, "{text}");
        assert_eq!(faults[0].at.line, 2, "{text}");
    }
}

proptest! {
    #[test]
    fn the_first_letter_hides_nothing_but_texts(first in any::<char>(), rest in "[a-zA-Z0-9.+~-]{0,4}") {
        let of_first = |rest: &str| format!("{first}{rest}");
        for text in ["", "ull", "ULL", "rue", "RUE", "alse", "ALSE", "inf", "nan", "x1f", "o7", "1e3", &rest].map(of_first) {
            prop_assert_eq!(plain(&text), special(&text), "{}", text);
        }
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "[-a-c0-9:{}\\[\\],&*!|>'\"#%@~.\t\n ]{0,80}") {
        let lines = text.lines().count().max(1);
        for fault in parse(&text).1.kept {
            prop_assert!((1..=lines).contains(&(fault.at.line as usize)), "{:?}", fault);
        }
    }

    #[test]
    fn any_characters_are_read_without_a_panic(text in any::<String>()) {
        parse(&text);
    }

    #[test]
    fn a_text_in_json_quotes_is_read_as_itself(text in "[^\0]{0,40}") {
        let quoted = serde_json::to_string(&text).unwrap();
        prop_assert_eq!(one(&quoted), Value::Text(text));
    }
}
