//! What can go wrong between us and Descope, worded for an operator.

use std::time::Duration;

/// Why a call had less time than the settings give it.
const CUT: &str = ", less than `requestTimeout`, since nothing is waited for beyond the lease of this replica";

/// Why a call to Descope failed. Messages that came from outside are bounded, one line, and free of known secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// 401.
    #[error(
        "Descope refused the management key; check that it is valid, not expired, and belongs to project {project}"
    )]
    Unauthorized {
        /// The project id that was sent with it.
        project: String,
    },
    /// 403, or a code that means the same: the key lacks a right, or the plan lacks the feature.
    #[error(
        "Descope does not permit {operation} with this management key or plan: {message}; give the key that right or the \
         project that plan, or take what needs it out of the files"
    )]
    Forbidden {
        /// The route template.
        operation: &'static str,
        /// What the API says.
        message: String,
    },
    /// A refusal that is a web page: the API answers in JSON, so something on the way gave it.
    #[error(
        "a web page came back for {operation} (status {status}): something between here and Descope, such as a proxy or \
         a firewall, refuses it; this says nothing about the management key"
    )]
    Blocked {
        /// The route template.
        operation: &'static str,
        /// The HTTP status.
        status: u16,
    },
    /// Any other 4xx: the same call will be refused again.
    #[error("Descope rejected {operation} with status {status}: {message}{}", in_parentheses(code))]
    Rejected {
        /// The route template.
        operation: &'static str,
        /// The HTTP status.
        status: u16,
        /// `errorCode`, such as `E011003`; empty where the answer had none.
        code: String,
        /// What the API says.
        message: String,
    },
    /// 5xx.
    #[error("Descope could not answer {operation}: status {status}: {message}")]
    Unavailable {
        /// The route template.
        operation: &'static str,
        /// The HTTP status.
        status: u16,
        /// What the API says.
        message: String,
    },
    /// Sent, and not answered in time.
    #[error("Descope did not answer {operation} within {} s{}", after.as_secs_f64(), if *is_cut { CUT } else { "" })]
    Timeout {
        /// The route template.
        operation: &'static str,
        /// How long we waited.
        after: Duration,
        /// Less than `requestTimeout`: the lease of this replica would have ended.
        is_cut: bool,
    },
    /// No connection: nothing was sent.
    #[error("cannot reach {host}: {cause}")]
    Unreachable {
        /// Where to.
        host: String,
        /// What the network says.
        cause: String,
    },
    /// The connection ended before the whole answer was there.
    #[error("the connection to Descope broke during {operation}: {cause}")]
    Reset {
        /// The route template.
        operation: &'static str,
        /// What the network says.
        cause: String,
    },
    /// An answer that is not of the documented form; most likely something between us and Descope gave it.
    #[error("the answer to {operation} is not one that Descope documents: {what}")]
    Undocumented {
        /// The route template.
        operation: &'static str,
        /// What came instead.
        what: String,
    },
    /// An answer that is longer than we take.
    #[error("{operation} gave {what}, the most that `maxAnswerMiB` lets in; raise it if the project is that large")]
    TooLarge {
        /// The route template.
        operation: &'static str,
        /// How long it is at least.
        what: String,
    },
    /// The management key could not be read; nothing was sent.
    #[error("cannot use the management key: {reason}")]
    KeyUnavailable {
        /// Why; never the key.
        reason: String,
    },
    /// We refused to send it.
    #[error("did not send {operation}: {what}")]
    Unsendable {
        /// The route template, or the kind.
        operation: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The daemon stops, or the call lost its point while it waited; nothing was sent by this try.
    #[error("stopping")]
    Stopping,
}

impl Error {
    /// May the same call succeed though nobody changes the YAML or the project?
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. }
            | Self::Timeout { .. }
            | Self::Unreachable { .. }
            | Self::Reset { .. }
            | Self::Undocumented { .. }
            | Self::KeyUnavailable { .. } => true,
            Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::Blocked { .. }
            | Self::Rejected { .. }
            | Self::TooLarge { .. }
            | Self::Unsendable { .. }
            | Self::Stopping => false,
        }
    }

    /// Was it sent, and is it unknown what became of it? Then look before sending a create, rename or delete again.
    /// Something on the way may have kept the answer back, not the call.
    pub fn may_have_taken_effect(&self) -> bool {
        match self {
            Self::Unavailable { .. }
            | Self::Blocked { .. }
            | Self::Timeout { .. }
            | Self::Reset { .. }
            | Self::Undocumented { .. }
            | Self::TooLarge { .. } => true,
            Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::Rejected { .. }
            | Self::Unreachable { .. }
            | Self::KeyUnavailable { .. }
            | Self::Unsendable { .. }
            | Self::Stopping => false,
        }
    }

    /// Somebody else changed the same document of the project's at the same time: looked at again, the call may work.
    pub fn is_version_conflict(&self) -> bool {
        // The refusal to touch a built-in role has the same words, and another code.
        matches!(self, Self::Rejected { code, message, .. }
            if code == "E111604" || code != "E024214" && message.to_lowercase().contains("version conflict"))
    }

    /// Was it sent, whatever became of it?
    pub fn was_sent(&self) -> bool {
        match self {
            Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::Blocked { .. }
            | Self::Rejected { .. }
            | Self::Unavailable { .. }
            | Self::Timeout { .. }
            | Self::Reset { .. }
            | Self::Undocumented { .. }
            | Self::TooLarge { .. } => true,
            Self::Unreachable { .. } | Self::KeyUnavailable { .. } | Self::Unsendable { .. } | Self::Stopping => false,
        }
    }

    /// Is the call refused whoever asks, so that a sibling of it would be refused as well?
    pub fn is_forbidden(&self) -> bool {
        match self {
            Self::Forbidden { .. } | Self::Blocked { .. } => true,
            Self::Unauthorized { .. }
            | Self::Rejected { .. }
            | Self::Unavailable { .. }
            | Self::Timeout { .. }
            | Self::Unreachable { .. }
            | Self::Reset { .. }
            | Self::Undocumented { .. }
            | Self::TooLarge { .. }
            | Self::KeyUnavailable { .. }
            | Self::Unsendable { .. }
            | Self::Stopping => false,
        }
    }

    /// The metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unauthorized { .. } => "unauthorized",
            Self::Forbidden { .. } | Self::Blocked { .. } => "forbidden",
            Self::Rejected { .. } => "rejected",
            Self::Unavailable { .. } | Self::Undocumented { .. } | Self::TooLarge { .. } => "status",
            Self::Timeout { .. } => "timeout",
            Self::Unreachable { .. } | Self::Reset { .. } => "connect",
            Self::KeyUnavailable { .. } => "key",
            Self::Unsendable { .. } => "unsendable",
            Self::Stopping => "stopping",
        }
    }
}

fn in_parentheses(code: &str) -> String {
    if code.is_empty() { String::new() } else { format!(" ({code})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_call_and_what_to_look_at() {
        let operation = "POST /v1/mgmt/role/create";
        let rejected = |code: &str| Error::Rejected {
            operation,
            status: 400,
            code: code.to_owned(),
            message: "Request is invalid".to_owned(),
        };

        assert_eq!(
            rejected("E011003").to_string(),
            "Descope rejected POST /v1/mgmt/role/create with status 400: Request is invalid (E011003)"
        );
        assert_eq!(
            rejected("").to_string(),
            "Descope rejected POST /v1/mgmt/role/create with status 400: Request is invalid"
        );
        assert_eq!(
            Error::Timeout { operation, after: Duration::from_millis(1500), is_cut: false }.to_string(),
            "Descope did not answer POST /v1/mgmt/role/create within 1.5 s"
        );
    }

    #[test]
    fn a_version_conflict_is_told_by_its_code_or_its_words() {
        let rejected = |code: &str, message: &str| Error::Rejected {
            operation: "POST /v2/mgmt/theme/import",
            status: 400,
            code: code.to_owned(),
            message: message.to_owned(),
        };

        assert!(rejected("E111604", "").is_version_conflict());
        assert!(rejected("E011003", "Version conflict").is_version_conflict());
        assert!(!rejected("E024214", "the role was not saved: version conflict").is_version_conflict());
        assert!(!rejected("E011003", "Request is invalid").is_version_conflict());
    }

    #[test]
    fn what_was_never_sent_has_no_effect() {
        let unreachable = Error::Unreachable { host: "api.descope.com".to_owned(), cause: "refused".to_owned() };

        assert!(unreachable.is_transient() && !unreachable.may_have_taken_effect());
        assert!(!Error::Stopping.is_transient() && !Error::Stopping.may_have_taken_effect());
    }
}
