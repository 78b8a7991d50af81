//! The events of a text of YAML.

pub use saphyr_parser::Event;
pub use saphyr_parser::Marker;
use saphyr_parser::Parser;
pub use saphyr_parser::ScalarStyle;
pub use saphyr_parser::ScanError;
pub use saphyr_parser::Span;
use saphyr_parser::StrInput;
pub use saphyr_parser::Tag;

/// What stands in a text, and where, up to the first error.
pub struct Events<'t>(Parser<'t, StrInput<'t>>);

impl<'t> Events<'t> {
    /// From the beginning of the text.
    #[must_use]
    pub fn of(text: &'t str) -> Self {
        Self(Parser::new_from_str(text))
    }
}

impl<'t> Iterator for Events<'t> {
    type Item = Result<(Event<'t>, Span), ScanError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_event()
    }
}

/// How many line feeds and carriage returns there are.
#[must_use]
pub fn line_ends(text: &str) -> usize {
    text.bytes().filter(|byte| matches!(byte, b'\n' | b'\r')).count()
}
