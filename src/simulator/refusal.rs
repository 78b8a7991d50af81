//! Why the API refuses a request.

use super::options::Switches;
use super::reply::Reply;
use serde_json::json;

/// Why the API refuses a request. The texts are what the caller reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No call has this method and path.
    NoSuchCall,
    /// The key is missing or wrong.
    BadKey,
    /// The body is not what the call takes.
    Malformed(String),
    /// The body says something that cannot be done.
    Invalid(String),
    /// The entity does not exist; the code is that of its family.
    NotFound(String, &'static str),
    /// The entity exists already.
    Exists(String),
    /// Refused with a status alone.
    Bare(u16),
    /// Refused in words of its own.
    Coded { status: u16, code: &'static str, message: String },
}

/// What the service says where no source names a code.
pub const INVALID: &str = "E011003";

impl Refusal {
    /// A required field is missing.
    pub fn required(field: &str) -> Self {
        Self::Invalid(format!("The {field} field is required"))
    }

    /// Something does not exist whose family has no code of its own.
    pub fn absent(what: &str, which: &str) -> Self {
        Self::NotFound(format!("{what} {which} not found"), INVALID)
    }

    /// Refused as forbidden to this key.
    pub fn forbidden(code: &'static str, message: &str) -> Self {
        Self::Coded { status: 403, code, message: message.to_owned() }
    }

    /// As it goes over the wire.
    pub fn reply(&self, switches: &Switches) -> Reply {
        let (status, code, description, message) = match self {
            // No JSON may be expected of these two.
            Self::NoSuchCall => return Reply::text(404, ""),
            Self::BadKey => return Reply::text(switches.bad_key_status, ""),
            Self::Bare(status) => return Reply::text(*status, ""),
            Self::Malformed(message) => (400, "E011001", "Request is malformed", message),
            Self::Invalid(message) => (400, INVALID, "Request is invalid", message),
            Self::NotFound(message, code) => {
                let code = if switches.not_found_code.is_empty() { code } else { switches.not_found_code.as_str() };
                (switches.not_found_status, code, "Not found", message)
            }
            Self::Coded { status, code, message } => (*status, *code, "Request refused", message),
            Self::Exists(message) => (switches.exists_status, switches.exists_code.as_str(), "Already exists", message),
        };
        if switches.empty_errors {
            return Reply::text(status, "");
        }
        let body = json!({ "errorCode": code, "errorDescription": description, "errorMessage": message });
        Reply::json(status, &body)
    }
}
