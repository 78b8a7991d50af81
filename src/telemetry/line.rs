//! Names and texts from outside as parts of one line: nothing in them can begin another, move the cursor, or turn the
//! direction of writing.

/// Characters that forge or hide text on a terminal.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The text as it may stand in one line; unsafe characters are written out.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_begins_another_line_or_moves_the_cursor() {
        let forged = "a\n  + roles/forged\r\u{1b}[2K\u{202e}b\u{85}é 日本";

        assert_eq!(one_line(forged), "a\\n  + roles/forged\\r\\u{1b}[2K\\u{202e}b\\u{85}é 日本");
    }
}
