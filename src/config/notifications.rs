//! `notifications`: who is told what, and where to reach them.

use crate::config::Config;
use crate::config::Env;
use crate::config::Invalid;
use crate::config::SecretRef;
use crate::config::SecretSource;
use std::collections::BTreeSet;
use url::Host;
use url::Url;

/// What a receiver may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Notice {
    /// Changes wait for a person.
    Held,
    /// Something does not go ahead, or nothing does.
    Failing,
    /// Somebody reverts a field again and again.
    Contested,
    /// Another replica took a project over before its lease was given back.
    LeaseLost,
    /// What was told before is over.
    Recovered,
}

impl Notice {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Held, Self::Failing, Self::Contested, Self::LeaseLost, Self::Recovered];

    /// As the config and the messages write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Failing => "failing",
            Self::Contested => "contested",
            Self::LeaseLost => "lease_lost",
            Self::Recovered => "recovered",
        }
    }
}

/// What a receiver understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// JSON of our own.
    Webhook,
    /// What Slack and its like take.
    Slack,
}

impl Form {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Webhook, Self::Slack];

    /// As the config writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Slack => "slack",
        }
    }
}

/// One of `notifications`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sink {
    /// `type`.
    pub form: Form,
    /// What it wants to hear.
    pub on: BTreeSet<Notice>,
    pub(super) url: SecretRef,
    pub(super) hmac_key: Option<SecretRef>,
}

/// A sink that can be reached.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// Type and where its address stands; no secret, and the same after a restart.
    pub name: String,
    /// What it understands.
    pub form: Form,
    /// What it wants to hear.
    pub on: BTreeSet<Notice>,
    /// Its address, which is a secret where it holds a token.
    pub url: SecretSource,
    /// What messages are signed with.
    pub hmac_key: Option<SecretSource>,
}

impl Sink {
    /// Type and where its address stands.
    pub fn name(&self) -> String {
        let place = match &self.url {
            SecretRef::Env(name) => name.clone(),
            SecretRef::File(path) => path.display().to_string(),
        };
        format!("{} {place}", self.form.as_str())
    }

    /// What it refers to, and under which key.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &SecretRef> {
        [&self.url].into_iter().chain(&self.hmac_key)
    }
}

impl Config {
    /// Those who are told. Errs where an address or a key cannot be read, or cannot be one.
    pub fn receivers(&self, env: Env<'_>) -> Result<Vec<Receiver>, Invalid> {
        let mut problems = Vec::new();
        let mut receivers = Vec::new();
        for (index, sink) in self.notifications.iter().enumerate() {
            let mut resolved = |field: &str, secret: &SecretRef, check: fn(&str) -> Result<(), &'static str>| {
                let key = format!("notifications[{index}].{field}");
                let found = secret.resolve(env).ok_or_else(|| match secret {
                    SecretRef::Env(name) => format!("{name} is not set; {key} names it"),
                    SecretRef::File(path) => format!("{} cannot be used; {key} names it", path.display()),
                });
                let source = found.and_then(|source| {
                    let value = source.read().map_err(|what| format!("{key}: {what}"))?;
                    check(secrecy::ExposeSecret::expose_secret(&value)).map_err(|what| format!("{key} {what}"))?;
                    Ok(source)
                });
                source.map_err(|message| problems.push(self.problem(&key, &message))).ok()
            };
            let url = resolved("url", &sink.url, |text| address(text).map(drop));
            let hmac_key = sink.hmac_key.as_ref().map(|secret| resolved("hmacKey", secret, |_| Ok(())));
            if let (Some(url), hmac_key) = (url, hmac_key.flatten()) {
                receivers.push(Receiver { name: sink.name(), form: sink.form, on: sink.on.clone(), url, hmac_key });
            }
        }
        if problems.is_empty() { Ok(receivers) } else { Err(Invalid(problems)) }
    }
}

/// Where messages may be sent. The error does not repeat it: it may hold a token.
pub fn address(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "must hold a URL such as https://example.com/hook")?;
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => return Err("must name a host"),
    };
    if url.scheme() == "https" || url.scheme() == "http" && is_loopback {
        Ok(url)
    } else {
        Err("must be https, or http to this machine: a token in it would travel in the clear")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_safe_or_refused_without_repeating_it() {
        for fine in
            ["https://hooks.example.com/T0/B0/x", "https://a.example/?token=x", "http://127.0.0.1:9/x", "http://[::1]/"]
        {
            assert!(address(fine).is_ok(), "{fine}");
        }
        for (text, what) in [
            ("hooks.example.com/hunter2", "must hold a URL"),
            ("http://hooks.example.com/hunter2", "must be https"),
            ("http://127.0.0.1.example.com/hunter2", "must be https"),
            ("file:///hunter2", "must name a host"),
            ("ftp://localhost/hunter2", "must be https"),
        ] {
            let error = address(text).unwrap_err();
            assert!(error.contains(what) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
