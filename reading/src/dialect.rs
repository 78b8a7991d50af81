//! YAML as people and tools leave it, looked at before a parser is: what parsers get wrong, or read by other rules than
//! the file's own without a word.

use crate::events::Event;
use crate::events::Events;
use crate::events::ScalarStyle;
use crate::events::Span;
use std::borrow::Cow;

/// Why this text cannot mean what it says: the line, from 1, and what to do. `None` for nearly every text.
pub fn obstacle(text: &str) -> Option<(usize, String)> {
    pointer(text).map(|message| (1, message.to_owned())).or_else(|| conflict(text)).or_else(|| other_version(text))
}

/// Is it what some tool left in the place of a file?
fn pointer(text: &str) -> Option<&'static str> {
    if text.starts_with("version https://git-lfs.github.com/spec/") {
        return Some(
            "is a pointer of Git LFS and not the file itself; fetch it with `git lfs pull`, or keep YAML out of LFS",
        );
    }
    let is_annex = text.starts_with("/annex/objects/") && text.trim_end().lines().count() == 1;
    is_annex.then_some("is a pointer of git-annex and not the file itself; fetch it with `git annex get`")
}

/// A merge that nobody finished. In YAML that begins at the left edge nothing else looks like this.
fn conflict(text: &str) -> Option<(usize, String)> {
    const MARKERS: [&str; 4] = ["\n<<<<<<<", "\n|||||||", "\n=======", "\n>>>>>>>"];
    let begins = |text: &str, marker: &str| text.starts_with(&marker[1..]);
    // Most texts have none anywhere, which is found out in a fraction of the time that their lines take.
    if !MARKERS.iter().any(|marker| begins(text, marker) || text.contains(marker)) {
        return None;
    }
    let is_marker = |line: &str| {
        let rest = |marker: &&str| line.strip_prefix(&marker[1..]);
        MARKERS.iter().filter_map(rest).any(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    let at = text.lines().position(is_marker)?;
    let message =
        "holds the markers of a merge conflict; resolve it, and take the lines with <<<<<<<, ======= and >>>>>>> out";
    Some((at + 1, message.to_owned()))
}

/// A `%YAML` directive that asks for other rules than those of 1.2, where `no` is a text and `010` is ten.
fn other_version(text: &str) -> Option<(usize, String)> {
    const DIRECTIVE: &str = "%YAML";
    if !text.contains(DIRECTIVE) {
        return None;
    }
    let mut may_be_directive = true;
    for (at, line) in text.lines().enumerate() {
        if line.starts_with("---") {
            may_be_directive = false;
        } else if line.trim_end() == "..." || line.starts_with("... ") {
            may_be_directive = true;
        } else if let Some(rest) = line.strip_prefix(DIRECTIVE).filter(|_| may_be_directive) {
            let version = rest.split('#').next().unwrap_or_default().trim();
            if version != "1.2" {
                let shown: String = version.chars().take(10).flat_map(char::escape_debug).collect();
                let message = format!(
                    "asks for the rules of YAML {shown}, but is read by those of 1.2; see that its values mean the same \
                     there (`no` is a text, `010` is ten), and take the line out"
                );
                return Some((at + 1, message));
            }
        } else if !line.trim_start().is_empty() && !line.starts_with(['%', '#']) {
            may_be_directive = false;
        }
    }
    None
}

/// The text with a space for each tab right after a `:` that ends a key. YAML 1.2 takes both alike; the parser refuses
/// the tab where a word follows. Tabs inside of quotes and of block texts stay: they are content.
pub fn with_spaces_after_keys(text: &str) -> Cow<'_, str> {
    // Told in a fraction of the time that looking for all places takes.
    if !text.contains(":\t") {
        return Cow::Borrowed(text);
    }
    let places: Vec<usize> = text.match_indices(":\t").map(|(at, _)| at + 1).collect();
    // The structure is the same with spaces in all those places, so this shows which of them lie inside of a text.
    let probe = text.replace(":\t", ": ");
    let bytes: Option<Vec<usize>> = (!probe.is_ascii()).then(|| probe.char_indices().map(|(at, _)| at).collect());
    let byte = |char: usize| bytes.as_ref().map_or(char, |all| all.get(char).copied().unwrap_or(probe.len()));
    let mut spaced = probe.clone().into_bytes();
    for event in Events::of(&probe) {
        let Ok((event, Span { start, end })) = event else { break };
        let Event::Scalar(_, style, ..) = event else { continue };
        if style == ScalarStyle::Plain {
            continue; // ends before the `:`
        }
        let (start, end) = (byte(start.index()), byte(end.index()));
        let from = places.partition_point(|at| *at < start);
        for at in places.iter().skip(from).take_while(|at| **at < end) {
            if let Some(place) = spaced.get_mut(*at) {
                *place = b'\t';
            }
        }
    }
    // One ASCII character took the place of another.
    String::from_utf8(spaced).map_or(Cow::Borrowed(text), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_yaml_of_ours_says_what_it_is() {
        let line =
            |text: &str| obstacle(text).map(|(line, message)| (line, message.chars().take(24).collect::<String>()));
        let found = |line: usize, message: &str| Some((line, message.to_owned()));
        for (text, expected) in [
            ("a: 1\n", None),
            ("%YAML 1.2\n---\na: 1\n", None),
            ("%YAML  1.2 # c\n---\na: 1\n", None),
            ("%YAML 1.1\n---\na: 1\n", found(1, "asks for the rules of YA")),
            ("# c\n\n%TAG ! x:\n%YAML 1.3\n---\na: 1\n", found(4, "asks for the rules of YA")),
            ("a: 1\n...\n%YAML 1.1\n---\nb: 1\n", found(3, "asks for the rules of YA")),
            ("%YAML\n---\n", found(1, "asks for the rules of YA")),
            ("a: |\n  x\n  %YAML 1.1\n", None),
            ("--- |\n%YAML 1.1\n", None),
            ("a: 1\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> x\n", found(2, "holds the markers of a m")),
            ("<<<<<<< HEAD\na: 1\n", found(1, "holds the markers of a m")),
            ("a: 1\r\n>>>>>>>\r\n", found(2, "holds the markers of a m")),
            ("a: b=======\n", None),
            ("a: 1\n=======\n", found(2, "holds the markers of a m")),
            ("# ======= x\na: |\n  =======\n<<: 1\n", None),
            ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", found(1, "is a pointer of Git LFS ")),
            ("/annex/objects/SHA256E-s5--0.yaml\n", found(1, "is a pointer of git-anne")),
        ] {
            assert_eq!(line(text), expected, "{text}");
        }
    }

    #[test]
    fn a_tab_after_a_key_becomes_a_space_and_one_inside_of_a_text_stays() {
        for (text, expected) in [
            ("a: b\n", "a: b\n"),
            ("a:\tb\n", "a: b\n"),
            ("ä:\n  é:\tc\n  d:\t\te\n", "ä:\n  é: c\n  d: \te\n"),
            ("- {a:\tb,\tc:\t'x:\ty'}\n", "- {a: b,\tc: 'x:\ty'}\n"),
            ("ü:\t\"x:\ty\"\nb:\tc\n", "ü: \"x:\ty\"\nb: c\n"),
            ("a:\t|\n  x:\ty\n\n  z:\t1\nb:\tc\n", "a: |\n  x:\ty\n\n  z:\t1\nb: c\n"),
            ("a: >-\n  x:\ty\n# c:\td\nb:\tc\n", "a: >-\n  x:\ty\n# c: d\nb: c\n"),
            ("'k:\t1':\tb\n", "'k:\t1': b\n"),
        ] {
            assert_eq!(with_spaces_after_keys(text), expected);
        }
    }

    proptest! {
        #[test]
        fn every_text_in_quotes_or_in_a_block_keeps_its_tabs(lines in prop::collection::vec("[a:\tß ]{0,6}x", 1..4), n in 0..3_usize) {
            let text = match n {
                0 => format!("k:\t{}\nl:\tm\n", serde_json::to_string(&lines.join(":\t")).unwrap()),
                1 => format!("k:\t'{}'\nl:\tm\n", lines.join(":\t")),
                _ => format!("k:\t|\n  .{}\nl:\tm\n", lines.join("\n  .")),
            };
            let expected = text.replacen("k:\t", "k: ", 1).replace("l:\tm\n", "l: m\n");

            prop_assert_eq!(with_spaces_after_keys(&text), expected);
        }
    }
}
