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
    /// The entity does not exist.
    NotFound(String),
    /// The entity exists already.
    Exists(String),
}

impl Refusal {
    /// A required field is missing.
    pub fn required(field: &str) -> Self {
        Self::Invalid(format!("The {field} field is required"))
    }

    /// As it goes over the wire.
    pub fn reply(&self, switches: &Switches) -> Reply {
        let (status, code, description, message) = match self {
            // No JSON may be expected of these two.
            Self::NoSuchCall => return Reply::text(404, ""),
            Self::BadKey => return Reply::text(switches.bad_key_status, ""),
            Self::Malformed(message) => (400, "E011001", "Request is malformed", message),
            Self::Invalid(message) => (400, "E011003", "Request is invalid", message),
            Self::NotFound(message) => {
                (switches.not_found_status, switches.not_found_code.as_str(), "Not found", message)
            }
            Self::Exists(message) => (switches.exists_status, switches.exists_code.as_str(), "Already exists", message),
        };
        if switches.empty_errors {
            return Reply::text(status, "");
        }
        let body = json!({ "errorCode": code, "errorDescription": description, "errorMessage": message });
        Reply::json(status, &body)
    }
}
