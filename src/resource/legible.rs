//! Names as people read them: in quotes and spelled out where eyes would take one for another.

use crate::telemetry::line::is_invisible;
use icu_normalizer::ComposingNormalizerBorrowed;
use std::borrow::Cow;

/// An identity in a text for people: as it is, unless it would be taken for another one. In documents it stands as it is.
pub fn legible(id: &str) -> Cow<'_, str> {
    if id.bytes().all(|byte| byte.is_ascii_graphic()) || !is_odd(id) { Cow::Borrowed(id) } else { exact(id).into() }
}

fn is_odd(id: &str) -> bool {
    let is_odd_blank = |c: char| c.is_control() || is_invisible(c) || c.is_whitespace() && c != ' ';
    // In an identity of two names both count.
    let has_outer_blank = id.split('/').any(|part| part.trim() != part);
    has_outer_blank || id.contains("  ") || id.chars().any(is_odd_blank) || form(id) != id
}

/// The name in quotes, character by character where it is not plain ASCII.
pub fn exact(name: &str) -> String {
    const LONGEST: usize = 80;
    let spelled = |c: char| if matches!(c, ' '..='~') { c.to_string() } else { c.escape_unicode().to_string() };
    let mut text: String = name.chars().take(LONGEST).map(spelled).collect();
    if name.chars().nth(LONGEST).is_some() {
        text.push('…');
    }
    format!("`{text}`")
}

/// The one of several Unicode forms that look alike.
pub fn form(name: &str) -> Cow<'_, str> {
    if name.is_ascii() { Cow::Borrowed(name) } else { ComposingNormalizerBorrowed::new_nfkc().normalize(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_spelled_out_where_it_is_not_plain() {
        assert_eq!(exact(" Cafe\u{301}\n"), "` Cafe\\u{301}\\u{a}`");
        assert_eq!(exact(&"x".repeat(100)).chars().count(), 83);
    }

    #[test]
    fn only_what_looks_like_something_else_is_quoted() {
        for plain in ["Editor", "Site Editor", "acme/Site Editor", "Caf\u{e9}", "東京", "a-b_c.d:e", ""] {
            assert_eq!(legible(plain), plain);
        }
        for (odd, expected) in [
            ("Editor ", "`Editor `"),
            ("acme / Editor", "`acme / Editor`"),
            ("Site  Editor", "`Site  Editor`"),
            ("Edi\u{200b}tor", "`Edi\\u{200b}tor`"),
            ("Cafe\u{301}", "`Cafe\\u{301}`"),
            ("\u{212a}elvin", "`\\u{212a}elvin`"),
            ("a\tb\u{1b}[31m", "`a\\u{9}b\\u{1b}[31m`"),
            ("a\u{a0}b", "`a\\u{a0}b`"),
            ("a\u{2066}b", "`a\\u{2066}b`"),
            ("a\u{61c}b", "`a\\u{61c}b`"),
            ("a\u{e0041}b", "`a\\u{e0041}b`"),
        ] {
            assert_eq!(legible(odd), expected, "{odd:?}");
        }
    }
}
