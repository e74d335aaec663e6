//! API: translates requests to use cases, and their answers and errors back. The API has no rules.

pub mod access;
pub mod around;
mod batches;
mod campaigns;
mod check;
mod contacts;
mod convert;
pub mod deadlines;
mod dispatch;
mod facts;
#[cfg(test)]
pub(crate) mod fuzz;
mod imports;
mod interactions;
pub mod limits;
pub mod methods;
mod names;
pub mod observing;
mod page;
pub mod panics;
mod places;
pub mod reading;
mod refusing;
mod rows;
mod session;
mod status;
mod wire;

pub use campaigns::CampaignApi;
pub use contacts::ContactApi;
pub use dispatch::DispatchApi;
pub use interactions::InteractionApi;
pub use session::SessionParts;
