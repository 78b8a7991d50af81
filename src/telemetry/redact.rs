//! Keeps loaded secrets out of text that leaves the process: logs, errors, status.

use secrecy::ExposeSecret;
use secrecy::SecretString;
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// What stands where a secret stood.
const MASK: &str = "(secret)";

/// Shorter ones are not looked for: they would hit ordinary words, and are no secret to anyone who can guess.
const SHORTEST: usize = 4;

/// Knows every secret that was loaded. Clones share what they know.
#[derive(Clone)]
pub struct Redactor {
    // Every spelling of every secret, longest first: one that contains another is masked whole.
    spellings: Arc<watch::Sender<Vec<SecretString>>>,
}

impl Redactor {
    /// Knows no secret yet.
    pub fn new() -> Self {
        Self { spellings: Arc::new(watch::Sender::new(Vec::new())) }
    }

    /// Remembers a secret from now on; again is harmless.
    pub fn add(&self, secret: &SecretString) {
        let plain = secret.expose_secret();
        if plain.chars().count() < SHORTEST || self.knows(plain) {
            return;
        }
        self.spellings.send_modify(|known| {
            for spelling in spellings(plain) {
                if !known.iter().any(|k| k.expose_secret() == spelling) {
                    known.push(SecretString::from(spelling));
                }
            }
            known.sort_by_key(|k| std::cmp::Reverse(k.expose_secret().len()));
        });
    }

    /// The text with every known secret replaced by `(secret)`, also where it is written as JSON, as Rust's debug
    /// output or percent-encoded.
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for spelling in self.spellings.borrow().iter() {
            if text.contains(spelling.expose_secret()) {
                text = text.replace(spelling.expose_secret(), MASK);
            }
        }
        text
    }

    fn knows(&self, plain: &str) -> bool {
        self.spellings.borrow().iter().any(|known| known.expose_secret() == plain)
    }
}

impl Default for Redactor {
    fn default() -> Self {
        Self::new()
    }
}

/// Says how much it knows, not what.
impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} spellings)", self.spellings.borrow().len())
    }
}

/// The ways a secret can be written by what quotes it.
fn spellings(plain: &str) -> [String; 4] {
    let json = serde_json::Value::from(plain).to_string();
    let debug = format!("{plain:?}");
    let unquoted = |quoted: &str| quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned();
    let encoded = url::form_urlencoded::byte_serialize(plain.as_bytes()).collect();
    [plain.to_owned(), unquoted(&json), unquoted(&debug), encoded]
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_short_secret_does_not_blank_out_ordinary_words() {
        assert_eq!(knowing(&["the"]).redact("the tenant"), "the tenant");
    }

    #[test]
    fn clones_learn_together_and_debug_output_tells_nothing() {
        let redactor = Redactor::new();
        let clone = redactor.clone();

        redactor.add(&SecretString::from("K2secret"));
        redactor.add(&SecretString::from("K2secret"));

        assert_eq!(clone.redact("K2secret"), "(secret)");
        assert_eq!(format!("{clone:?}"), "Redactor(1 spellings)");
    }
}
