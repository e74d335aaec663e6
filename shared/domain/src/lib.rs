//! Rules of campaigns, as pure functions of state, command and time.
//!
//! | question | module |
//! |---|---|
//! | which command is allowed in which state | [`lifecycle`] |
//! | what a launch setting means | [`settings`] |
//! | is this contact to be engaged | [`eligibility`] |
//! | what is reported of a contact | [`facts`] |
//! | what does a reported fact change | [`history`] |
//! | when did a fact happen, and after which launch | [`timing`] |
//! | when is a contact tried again | [`retry`] |
//! | where does a contact stand, and why is nobody called | [`standing`] |
//! | may a call be placed at this hour | [`schedule`] |
//! | what time is it elsewhere | [`zones`] |
//! | may one more call begin now | [`pacing`], [`caps`] |
//! | which workers serve a campaign | [`serving`] |
//! | who leases next, from which campaign and for whom | [`roster`], [`shares`] |
//! | when does a campaign need the service next | [`agenda`] |
//! | may a leased contact be dialled now | [`dispatch`], [`lease`] |
//! | is someone who calls in answered | [`inbound`] |
//! | did a person open a link | [`links`] |
//! | is this a phone number | [`phone`] |
//! | which numbers are one subscriber's | [`subscriber`] |
//! | is this the list that was imported before | [`fingerprint`] |
//! | was the audit log changed | [`audit`] |
//! | what is a caller trusted with, and whose campaigns are there for it | [`access`] |
//!
//! The crate has no input, output or clock: the time is an argument.
#![forbid(unsafe_code)]

pub mod access;
pub mod agenda;
pub mod audit;
pub mod campaign;
pub mod caps;
pub mod dispatch;
pub mod eligibility;
pub mod end_detail;
pub mod facts;
pub mod fingerprint;
pub mod history;
pub mod inbound;
pub mod lease;
pub mod lifecycle;
pub mod links;
pub mod pacing;
pub mod phone;
pub mod retry;
pub mod roster;
pub mod schedule;
pub mod serving;
pub mod settings;
pub mod shares;
pub mod standing;
pub mod subscriber;
pub mod timing;
pub mod zones;

/// Instant in UTC.
pub type Instant = chrono::DateTime<chrono::Utc>;
