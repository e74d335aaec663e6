//! Events of attempts. Every platform's callbacks and look-ups are read as these.

use crate::call::{Attempt, CallEnd, CallEvents, Fact, Fault, Outcome};

/// Longest name accepted, in bytes.
const MAX_NAME_BYTES: usize = 200;

/// Names of an attempt. A platform echoes them, so nothing is stored here: they also find calls that
/// an earlier process placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub key: String,
    pub contact: String,
    pub attempt_id: String,
}

impl Named {
    pub fn of(attempt: &Attempt) -> Self {
        let (contact, attempt_id) = (attempt.contact.clone(), attempt.attempt_id.clone());
        Self { key: attempt.key(), contact, attempt_id }
    }

    /// Returns the names of the attempt on a contact, as [`Attempt::key`] makes the key.
    pub fn by(contact: &str, attempt_id: &str) -> Option<Self> {
        let campaign = contact.split('/').nth(1)?;
        Self::echoed(&format!("{campaign}.{attempt_id}"), contact, attempt_id)
    }

    /// Returns the names that a platform echoed. Returns `None` if one is empty or too long.
    pub fn echoed(key: &str, contact: &str, attempt_id: &str) -> Option<Self> {
        let names = [key, contact, attempt_id];
        let are_well = names.iter().all(|name| (1..=MAX_NAME_BYTES).contains(&name.len()));
        let [key, contact, attempt_id] = names.map(str::to_owned);
        are_well.then_some(Self { key, contact, attempt_id })
    }

    /// Returns news of the attempt as its events.
    pub fn events(&self, whats: Vec<What>) -> Vec<Event> {
        let event = |what| Event { of: Of::Attempt(self.clone()), what };
        whats.into_iter().map(event).collect()
    }
}

/// Event of an attempt.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub of: Of,
    pub what: What,
}

/// Attempt of an event.
#[derive(Clone, Debug)]
pub(super) enum Of {
    Attempt(Named),
    /// Call by the platform's own id, where the event echoes no names.
    Call(String),
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// A phone rings.
    Rings,
    Answered,
    /// Later judgement of the platform on the voice that answered.
    AnsweredBy {
        is_machine: bool,
        /// Platform's own id of the call.
        id: String,
    },
    Fact(Fact),
    Ended(End),
    /// The call is over. Only a look-up tells how.
    Over {
        id: String,
    },
}

/// End of a call, as the platform tells it.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub end: CallEnd,
    /// Sign that the end gives of the platform's health.
    pub shows: Shows,
}

/// Sign of the platform's health that the end of a call gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    /// The platform reached the contact's line.
    Works,
    /// The call ended with this code before any phone rang: the contact's fault, or the platform's.
    Unrung(u16),
    /// The platform or the account is at fault.
    Fault(Fault),
    /// Nothing.
    Nothing,
}

impl Shows {
    /// Reports the sign, as one of a call.
    pub async fn tell(self, events: &CallEvents) {
        match self {
            Self::Works => events.provider_works().await,
            Self::Unrung(code) => events.ended_unrung(code).await,
            Self::Fault(fault) => events.provider_failed(fault, None).await,
            Self::Nothing => {}
        }
    }
}

impl End {
    pub fn new(end: CallEnd, shows: Shows) -> Self {
        Self { end, shows }
    }
}

/// Returns the end of a call after a judgement on the voice that answered.
pub(super) fn judged(end: CallEnd, is_machine: bool) -> CallEnd {
    let was_no_person = is_machine && end.outcome == Outcome::Answered;
    let outcome = if was_no_person { Outcome::Voicemail } else { end.outcome };
    CallEnd { outcome, ..end }
}
