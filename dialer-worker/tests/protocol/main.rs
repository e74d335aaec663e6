//! The worker keeps its side of the dispatch protocol, against a service that plays a script.

mod dialling;
mod fake;
mod provider;
mod serving;
mod stopping;
mod under_test;
