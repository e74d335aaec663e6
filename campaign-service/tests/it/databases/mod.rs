//! Databases as they occur in practice: with other defaults, full, silent, copied, behind a pool.

mod clusters;
mod defaults;
mod errors;
mod notices;
mod outages;
mod pools;
mod refusals;
