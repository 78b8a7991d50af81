//! Names that people take for one another: identities compare byte for byte, eyes do not.

use crate::resource::legible::form;
use crate::telemetry::line::is_invisible;
use std::borrow::Cow;

/// What of a name people see: without letter case, outer and doubled blanks, invisible characters and the choice between
/// Unicode forms.
pub fn seen(name: &str) -> Cow<'_, str> {
    if is_plain(name) {
        return Cow::Borrowed(name);
    }
    let form = form(name);
    let mut seen = String::with_capacity(form.len());
    let visible = form.chars().filter(|c| !is_invisible(*c)).flat_map(char::to_lowercase);
    for c in visible {
        if !c.is_whitespace() {
            seen.push(c);
        } else if !seen.is_empty() && !seen.ends_with(' ') {
            seen.push(' ');
        }
    }
    seen.truncate(seen.trim_end().len());
    Cow::Owned(seen)
}

/// Nothing in it looks like something else.
pub fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
}

/// In what two names differ that look alike, in words; `None` where they do not look alike, or are equal.
pub fn difference(one: &str, other: &str) -> Option<String> {
    if one == other || seen(one) != seen(other) {
        return None;
    }
    let blanks = |name: &str| name.chars().filter(|c| c.is_whitespace() || is_invisible(*c)).collect::<String>();
    let ends = |name: &str| name.len() != name.trim().len();
    let letters = |name: &str| name.chars().filter(|c| !c.is_whitespace() && !is_invisible(*c)).collect::<String>();
    let (a, b) = (letters(one), letters(other));
    let mut found = Vec::new();
    if form(&a) != form(&b) {
        found.push("letter case");
    }
    if a != b && (form(&a) == form(&b) || a.to_lowercase() != b.to_lowercase()) {
        found.push("Unicode form");
    }
    if blanks(one) != blanks(other) || ends(one) != ends(other) {
        found.push("blanks");
    }
    Some(found.join(" and "))
}

/// The one of `known` that was probably meant: at most a third of the letters are wrong, and no other is as near.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let seen_name = seen(name);
    let length = seen_name.chars().count();
    let most = length / 3;
    let mut best: Option<(usize, &str, bool)> = None;
    // What is much longer or shorter is told apart cheaply.
    for candidate in known.filter(|candidate| candidate.len().abs_diff(name.len()) <= 4 * most) {
        let distance = strsim::osa_distance(&seen_name, &seen(candidate));
        best = match best {
            Some((least, ..)) if distance > least => best,
            Some((least, first, _)) if distance == least => Some((least, first, false)),
            Some(_) | None => Some((distance, candidate, true)),
        };
    }
    best.filter(|(distance, _, is_alone)| *distance <= most && *is_alone).map(|(_, candidate, _)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_are_told_apart_in_words() {
        for (one, other, expected) in [
            ("Editor", "Editor", None),
            ("Editor", "Edit or", None),
            ("Editor", "Reader", None),
            ("Editor", "editor", Some("letter case")),
            ("Editor", " Editor", Some("blanks")),
            ("Editor", "Edi\u{200b}tor", Some("blanks")),
            ("Site  Editor", "Site Editor", Some("blanks")),
            ("Site\u{a0}Editor", "Site Editor", Some("blanks")),
            ("Caf\u{e9}", "Cafe\u{301}", Some("Unicode form")),
            ("CAF\u{c9} ", "cafe\u{301}", Some("letter case and Unicode form and blanks")),
        ] {
            assert_eq!(difference(one, other).as_deref(), expected, "{one:?} {other:?}");
            assert_eq!(difference(other, one).as_deref(), expected, "{other:?} {one:?}");
        }
    }

    #[test]
    fn what_is_seen_of_a_name_looks_like_nothing_else() {
        for name in ["plain-1", "", "Site Editor", " a ", "Caf\u{e9}", "a\tb", "\u{200b}", "\u{212a}elvin"] {
            let once = seen(name);

            assert_eq!(seen(&once), once, "{name:?}");
            assert_eq!(difference(name, &once).is_none(), name == once, "{name:?}");
        }
    }

    #[test]
    fn the_nearest_name_is_a_typo_away_and_the_only_one() {
        for (name, known, expected) in [
            ("articels.read", vec!["articles.read", "articles.write"], Some("articles.read")),
            ("Editro", vec!["editor", "viewer"], Some("editor")),
            ("Edtiro", vec!["editor", "viewer"], Some("editor")),
            ("Etdrio", vec!["editor", "viewer"], None),
            ("Editor", vec!["Viewer"], None),
            ("role-9", vec!["role-1", "role-2"], None),
            ("q", vec!["p"], None),
            ("caf\u{e9}s", vec!["cafe\u{301}"], Some("cafe\u{301}")),
        ] {
            assert_eq!(nearest(name, known.into_iter()), expected, "{name}");
        }
    }
}
