//! What can go wrong in a use case. The gRPC layer maps it to a status, in one place.

use crate::store::StoreError;
use campaign_domain::access::Role;
use campaign_domain::lifecycle::Refusal;
use std::time::Duration;

/// What a use case gives.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a request was not done. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields of the request are wrong.
    #[error("{}", violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid {
        /// Which, and how.
        violations: Vec<Violation>,
    },
    /// No such resource; its name.
    #[error("{0} does not exist")]
    NotFound(String),
    /// Another resource stands in the way; its name.
    #[error("{0} exists already")]
    AlreadyExists(String),
    /// The state machine says no.
    #[error("{0}")]
    Refused(Refusal),
    /// Something else must be done first.
    #[error("{description}")]
    Precondition {
        /// For programs, in capitals.
        reason: &'static str,
        /// The field or resource in question.
        subject: String,
        /// For people; says what to do.
        description: String,
    },
    /// Nobody knows who calls.
    #[error("{description}")]
    Unauthenticated {
        /// For programs, in capitals.
        reason: &'static str,
        /// For people; says what to do.
        description: String,
    },
    /// The caller is not trusted with it.
    #[error("{what} needs the role {}; ask for a token that has it", names(roles))]
    Forbidden {
        /// The method or setting.
        what: String,
        /// Any of these would do.
        roles: Vec<Role>,
    },
    /// No such method.
    #[error("there is no such method")]
    Unimplemented,
    /// The resource changed since the caller read it.
    #[error("the campaign changed since its etag was read; get it again and repeat")]
    Outdated,
    /// There is too much to do.
    #[error("{description}")]
    Busy {
        /// For programs, in capitals.
        reason: &'static str,
        /// For people; says what to do.
        description: String,
        /// When to try again.
        retry_delay: Duration,
    },
    /// It took longer than a request may.
    #[error(
        "the request took too long and was given up; whether it was done is not known; repeat it"
    )]
    TooLong,
    /// It did not arrive whole in time.
    #[error("the request was not whole in time and was not done; send it at once")]
    Unfinished,
    /// This replica stops.
    #[error("this replica is stopping; connect to another one")]
    Stopping,
    /// It broke off, and whether it was done is not known.
    #[error("the request broke off; repeat it")]
    Interrupted,
    /// The database could not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn names(roles: &[Role]) -> String {
    roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(" or ")
}

/// One wrong field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path in the request, as in `campaign.schedule.time_zone`.
    pub field: String,
    /// In plain words, to follow the field's name: "must be …".
    pub description: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.field, self.description)
    }
}

impl Error {
    /// One field is wrong.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        let violation = Violation { field: field.into(), description: description.into() };
        Self::Invalid { violations: vec![violation] }
    }
}
