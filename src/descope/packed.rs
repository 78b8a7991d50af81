//! One object of an answer, as its text. A hundred thousand trees of values weigh ten times what they say, and most of them are
//! looked at once.

use super::Document;
use descope_gitops_reading::json;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A JSON object that is a tree only while it is looked at.
#[derive(Clone)]
pub struct Packed {
    /// What it is part of: an answer is held once, for all that is in it.
    text: Arc<Vec<u8>>,
    at: Range<usize>,
}

impl Packed {
    /// The object that stands there. What does not is found by [`Packed::read`].
    pub(super) fn part(text: &Arc<Vec<u8>>, at: Range<usize>) -> Self {
        Self { text: Arc::clone(text), at }
    }

    /// Of a document that was made.
    pub fn of(document: &Document) -> Self {
        let mut text = serde_json::to_vec(document).unwrap_or_default();
        text.shrink_to_fit();
        Self { at: 0..text.len(), text: Arc::new(text) }
    }

    /// The document; `None` where the text is of none.
    pub fn read(&self) -> Option<Document> {
        json::object(self.text())
    }

    /// The same with these fields alone: many times as fast where they are few.
    pub fn read_only(&self, fields: &[&str]) -> Option<Document> {
        json::only(self.text(), fields)
    }

    pub(super) fn text(&self) -> &[u8] {
        self.text.get(self.at.clone()).unwrap_or_default()
    }
}

/// Of the same text.
impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

/// Says how long it is: what it holds may be a secret.
impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed({} bytes)", self.at.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Packed {
        Packed::part(&Arc::new(text.as_bytes().to_vec()), 0..text.len())
    }

    #[test]
    fn a_part_of_a_document_is_read_as_it_is_in_the_whole() {
        let text = r#"{"n\u0061me":"a","x":{"name":"b"},"name":"c","list":[{"id":1}],"id":null}"#;
        for fields in [&["name"][..], &["id", "list"], &["none"], &[]] {
            let mut whole = of(text).read().unwrap();
            whole.retain(|name, _| fields.contains(&name.as_str()));

            assert_eq!(of(text).read_only(fields), Some(whole), "{fields:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_no_object_is_none_of_it_either(text in r#"[\{\}\[\]":,a0 ]{0,12}"#) {
            prop_assert_eq!(of(&text).read_only(&["a"]).is_some(), of(&text).read().is_some(), "{}", text);
        }
    }
}
