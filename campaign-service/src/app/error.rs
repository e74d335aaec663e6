//! Errors of use cases. The gRPC layer maps each error to a status, in one place.

use crate::store::StoreError;
use campaign_domain::access::Role;
use campaign_domain::lifecycle::Refusal;
use std::time::Duration;

/// Result of a use case.
pub type Result<T> = std::result::Result<T, Error>;

/// Reason why a request was not done. Nothing was changed. Except: after [`Error::TooLong`] and
/// [`Error::Interrupted`], this is not known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields of the request are wrong.
    #[error("{}", violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid {
        /// Wrong fields, and what is wrong with each.
        violations: Vec<Violation>,
    },
    /// The resource with this name does not exist.
    #[error("{0} does not exist")]
    NotFound(String),
    /// A resource with this name exists already.
    #[error("{0} exists already")]
    AlreadyExists(String),
    /// The state machine rejects the command.
    #[error("{0}")]
    Refused(Refusal),
    /// Something else must be done first.
    #[error("{description}")]
    Precondition {
        /// Reason for programs, in capitals.
        reason: &'static str,
        /// Field or resource in question.
        subject: String,
        /// Text for people; says what to do.
        description: String,
    },
    /// The caller is not identified.
    #[error("{description}")]
    Unauthenticated {
        /// Reason for programs, in capitals.
        reason: &'static str,
        /// Text for people; says what to do.
        description: String,
    },
    /// The caller lacks a role.
    #[error("{what} needs the role {}; ask for a token that has it", names(roles))]
    Forbidden {
        /// Method or setting.
        what: String,
        /// Roles, of which any one is enough.
        roles: Vec<Role>,
    },
    /// The method does not exist.
    #[error("there is no such method")]
    Unimplemented,
    /// The resource changed since the caller read it.
    #[error("the campaign changed since its etag was read; get it again and repeat")]
    Outdated,
    /// There is too much to do at this moment.
    #[error("{description}")]
    Busy {
        /// Reason for programs, in capitals.
        reason: &'static str,
        /// Text for people; says what to do.
        description: String,
        /// Wait before the next try.
        retry_delay: Duration,
    },
    /// The request took longer than it may.
    #[error(
        "the request took too long and was given up; whether it was done is not known; repeat it"
    )]
    TooLong,
    /// The request did not arrive whole in time.
    #[error("the request was not whole in time and was not done; send it at once")]
    Unfinished,
    /// This replica is stopping.
    #[error("this replica is stopping; connect to another one")]
    Stopping,
    /// The stream has been open for long enough.
    #[error("the stream is old; open it again, so that streams spread over all replicas")]
    StreamTooOld,
    /// The request broke off, and whether it was done is not known.
    #[error("the request broke off; repeat it")]
    Interrupted,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn names(roles: &[Role]) -> String {
    roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(" or ")
}

/// Wrong field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path in the request, as in `campaign.schedule.time_zone`.
    pub field: String,
    /// Text that follows the field's name: "must be …".
    pub description: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.field, self.description)
    }
}

impl Error {
    /// Returns an error about one wrong field.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        let violation = Violation { field: field.into(), description: description.into() };
        Self::Invalid { violations: vec![violation] }
    }
}
