//! Names and texts from outside as parts of one line: nothing in them can begin another, move the cursor, or turn the
//! direction of writing.

/// Characters that forge or hide text on a terminal.
pub fn is_unsafe(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    // Those that choose the form of the character before them, as of emoji, hide nothing in a text.
    let is_form = matches!(c, '\u{fe00}'..='\u{fe0f}');
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || is_invisible(c) && !is_form
}

/// Takes no room on a screen: joiners, fillers, tags, marks of direction and order. What Unicode calls ignorable.
pub fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// The text as it may stand in one line; unsafe characters are written out.
pub fn one_line(text: &str) -> String {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// What a message says beside the call that it names: of one cause, each list has a path of its own.
pub fn cause(message: &str) -> String {
    const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "PATCH"];
    let mut words = message.split(' ').peekable();
    let mut cause = String::with_capacity(message.len());
    while let Some(word) = words.next() {
        if METHODS.contains(&word)
            && let Some(path) = words.next_if(|path| path.starts_with('/'))
        {
            cause.push_str(path.find([':', ';', ',', ')']).map_or("", |end| &path[end..]));
        } else {
            cause.push_str(word);
        }
        cause.push(' ');
    }
    cause
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_one_cause_differ_in_the_call_that_they_name_alone() {
        let of = |path: &str, status| format!("Descope could not answer GET {path}: status {status}: Oops");

        assert_eq!(cause(&of("/v1/a", 500)), cause(&of("/v1/b/all", 500)));
        assert_ne!(cause(&of("/v1/a", 500)), cause(&of("/v1/a", 502)));
        assert_ne!(cause("cannot GET it"), cause("cannot GET them"));
        assert_eq!(
            cause("Descope did not answer POST /v1/a within 5 s"),
            cause("Descope did not answer GET /v1/b within 5 s")
        );
    }

    #[test]
    fn nothing_begins_another_line_or_moves_the_cursor() {
        let forged = "a\n  + roles/forged\r\u{1b}[2K\u{202e}b\u{85}é 日本";

        assert_eq!(one_line(forged), "a\\n  + roles/forged\\r\\u{1b}[2K\\u{202e}b\\u{85}é 日本");
    }

    #[test]
    fn what_is_plain_stays_as_it_is() {
        for c in (0..=0x1_ffff).filter_map(char::from_u32) {
            let expected = if c.is_control() || is_unsafe(c) { c.escape_default().to_string() } else { c.to_string() };

            assert_eq!(one_line(&c.to_string()), expected);
            assert_eq!(one_line(&format!("a{c}é")), format!("a{expected}é"));
        }
    }

    #[test]
    fn what_takes_no_room_is_written_out_and_emoji_stay() {
        for hidden in ['\u{ad}', '\u{61c}', '\u{180e}', '\u{2066}', '\u{2069}', '\u{3164}', '\u{e0041}', '\u{2028}'] {
            assert_eq!(one_line(&format!("a{hidden}b")), format!("a{}b", hidden.escape_unicode()));
        }
        assert_eq!(one_line("\u{26a0}\u{fe0f} caf\u{e9}"), "\u{26a0}\u{fe0f} caf\u{e9}");
    }
}
