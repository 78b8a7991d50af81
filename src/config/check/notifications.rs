//! `notifications`: what each sink is told, and that no two are one.

use crate::config::Form;
use crate::config::Notice;
use crate::config::Sink;
use crate::config::check::Check;
use crate::config::raw::RawSink;
use crate::config::raw::Text;
use crate::config::values;
use std::collections::BTreeSet;

impl Check {
    pub fn notifications(&mut self, raw: &[RawSink]) -> Vec<Sink> {
        let mut sinks: Vec<Sink> = Vec::new();
        for (index, raw) in raw.iter().enumerate() {
            let key = format!("notifications[{index}]");
            let Some(sink) = self.sink(&key, raw) else { continue };
            if sinks.iter().any(|other| other.name() == sink.name()) {
                let what = "has the type and the address of another one; write one with all that it is told in `on`";
                self.wrong(&key, what);
            }
            sinks.push(sink);
        }
        sinks
    }

    fn sink(&mut self, key: &str, raw: &RawSink) -> Option<Sink> {
        let forms = Form::ALL.map(|form| (form.as_str(), form));
        let form = if let Some(Text(text)) = &raw.r#type {
            values::choice(text, &forms).map_err(|what| self.wrong(&format!("{key}.type"), &what)).ok()
        } else {
            self.wrong(&format!("{key}.type"), "is missing; it is webhook or slack");
            None
        };
        let url = if let Some(secret) = &raw.url {
            self.secret(&format!("{key}.url"), secret)
        } else {
            self.wrong(&format!("{key}.url"), "is missing; write { env: NAME } or { file: PATH }");
            None
        };
        let hmac_key = raw.hmac_key.as_ref().map(|secret| self.secret(&format!("{key}.hmacKey"), secret));
        let on = match &raw.on {
            Some(words) => self.notices(&format!("{key}.on"), words),
            None => Notice::ALL.into(),
        };
        Some(Sink { form: form?, on, url: url?, hmac_key: hmac_key.flatten() })
    }

    fn notices(&mut self, key: &str, words: &[Text]) -> BTreeSet<Notice> {
        let known = Notice::ALL.map(|notice| (notice.as_str(), notice));
        let mut on = BTreeSet::new();
        for (index, Text(word)) in words.iter().enumerate() {
            match values::choice(word, &known) {
                Ok(notice) => drop(on.insert(notice)),
                Err(what) => self.wrong(&format!("{key}[{index}]"), &what),
            }
        }
        if words.is_empty() || words.iter().all(|Text(word)| word == Notice::Recovered.as_str()) {
            self.wrong(key, "must name something besides recovered, which follows what was told");
        }
        on
    }
}
