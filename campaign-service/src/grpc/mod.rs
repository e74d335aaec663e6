//! The API: translates requests to use cases, and their answers and errors back. Decides nothing.

pub mod access;
pub mod around;
mod batches;
mod campaigns;
mod check;
mod contacts;
mod convert;
mod dispatch;
mod facts;
#[cfg(test)]
pub(crate) mod fuzz;
mod imports;
mod interactions;
pub mod limits;
mod names;
pub mod observing;
mod page;
pub mod panics;
mod refusing;
mod session;
mod status;

pub use campaigns::CampaignApi;
pub use contacts::ContactApi;
pub use dispatch::DispatchApi;
pub use interactions::InteractionApi;
