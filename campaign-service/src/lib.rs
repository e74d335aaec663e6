//! Campaign service: owns campaigns, contacts and their history, and streams leased batches of
//! contacts to dialer workers.
//!
//! Path of a contact: [`app::dispatch::leasing`] → [`grpc`] stream → [`app::dispatch::authorizing`]
//! → the worker dials → [`app::facts::recording`] → history. Rules are in the crate
//! `campaign_domain`, SQL in [`store`].
#![forbid(unsafe_code)]

pub mod app;
pub mod config;
pub mod eraser;
pub mod grpc;
mod health;
pub mod links;
mod mac_key;
pub mod metrics;
mod reloading;
pub mod server;
pub mod starting;
pub mod store;
pub mod tls;
pub mod tokens;
pub mod zone_data;
