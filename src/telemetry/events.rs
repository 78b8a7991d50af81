//! Log events as values, for a command that shows them in its own words instead of as log lines.

use crate::telemetry::logs;
use std::collections::BTreeMap;
use std::fmt;
use tokio::sync::mpsc;
use tracing::Level;
use tracing::Subscriber;
use tracing::field::Field;
use tracing::field::Visit;
use tracing::span;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;
use tracing_subscriber::registry::LookupSpan;

/// Where our own events come from.
const OURS: &str = env!("CARGO_CRATE_NAME");

/// One event, with the fields of the spans around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// How bad it is.
    pub level: Level,
    /// What happened.
    pub message: String,
    /// By name; the event's own come before those of the spans.
    pub fields: BTreeMap<&'static str, String>,
}

impl Event {
    /// A field; empty where there is none.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// Sends the daemon's events from now on, `info` and above, instead of logging them. Not redacted.
pub fn init() -> mpsc::UnboundedReceiver<Event> {
    let (to, events) = mpsc::unbounded_channel();
    logs::install(registry().with(Sender { to }));
    events
}

/// Hands the events on.
struct Sender {
    to: mpsc::UnboundedSender<Event>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Sender {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let origin = event.metadata();
        if *origin.level() > Level::INFO || origin.target().split("::").next() != Some(OURS) {
            return;
        }
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(registry::Scope::from_root) {
            if let Some(around) = span.extensions().get::<Fields>() {
                fields.0.extend(around.0.clone());
            }
        }
        event.record(&mut fields);
        let message = fields.0.remove("message").unwrap_or_default();
        // Nobody listens any more once the command ends.
        self.to.send(Event { level: *origin.level(), message, fields: fields.0 }).unwrap_or_default();
    }
}

#[derive(Debug, Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_brings_the_fields_of_its_spans_and_strangers_are_left_out() {
        let (to, mut events) = mpsc::unbounded_channel();

        tracing::subscriber::with_default(registry().with(Sender { to }), || {
            let span = tracing::info_span!("change", kind = "roles", id = "of the span");
            let _entered = span.enter();
            tracing::info!(id = "Editor", attempt = 2, error = %"gone", "changed");
            tracing::debug!("too fine");
            tracing::info!(target: "hyper", "not ours");
        });

        let event = events.try_recv().unwrap();
        assert_eq!((event.level, event.message.as_str()), (Level::INFO, "changed"));
        let fields = [("attempt", "2"), ("error", "gone"), ("id", "Editor"), ("kind", "roles")];
        assert_eq!(event.fields, fields.map(|(name, value)| (name, value.to_owned())).into());
        assert_eq!(event.field("nothing"), "");
        assert!(events.try_recv().is_err());
    }
}
