//! Databases as they are found in the world: with defaults of others, full, silent, copied, behind a pool.

mod clusters;
mod defaults;
mod errors;
mod notices;
mod outages;
mod pools;
mod refusals;
