//! Tests of the service over real gRPC against a real PostgreSQL. Run them with `make test`, or set
//! `DATABASE_URL` to a server on which databases can be created.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod access;
mod audit;
mod bad_input;
mod bulk;
mod campaignctl;
mod clients;
mod compatibility;
mod configuration;
mod contacts;
mod control_cost;
mod counts;
mod crashes;
mod databases;
mod dispatch;
mod distribution;
mod erasure;
mod excluding;
mod fleet;
mod imports;
mod inbound;
mod lifecycle;
mod limits;
mod links;
mod listening;
mod meaning;
mod metrics;
mod model;
mod nasty;
mod outcomes;
mod pacing;
mod panics;
mod plans;
mod privacy;
mod promises;
mod retention;
mod rolling;
mod serving;
mod settings;
mod states;
mod storm;
mod strangers;
mod support;
mod taking_away;
mod tenants;
mod traces;
mod walkthrough;
