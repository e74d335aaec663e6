//! Conditions that hold before the service serves.

use crate::store::clusters::{self, Found};
use crate::store::fitness::{self, Finding, Verdict};
use crate::store::{Db, StoreError};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::sleep;
use tracing::{info, warn};

/// Time between checks of a database that cannot be used yet.
const WAIT_INTERVAL: Duration = Duration::from_secs(1);

/// Waits until the database is there, takes writes and has the schema that this version needs. Then adopts data that
/// came from another cluster.
///
/// # Errors
/// Returns an error if the database cannot be used without a change by an operator. The error says what to do.
pub async fn until_usable(db: &Db) -> Result<(), String> {
    let mut said = BTreeSet::new();
    loop {
        let trouble = match fitness::check(db).await {
            Ok(findings) => trouble(findings, &mut said)?,
            Err(error) => Some(unusable(&error)),
        };
        let trouble = match trouble {
            Some(trouble) => Some(trouble),
            None => match clusters::adopt(db).await {
                Ok(found) => return tell(&found),
                Err(error) => Some(unusable(&error)),
            },
        };
        if let Some(trouble) = trouble.filter(|trouble| said.insert(trouble.clone())) {
            warn!("{trouble}; waiting");
        }
        sleep(WAIT_INTERVAL).await;
    }
}

/// Returns why the database cannot be used yet; `None` if it can be used. Each risk is logged once.
fn trouble(findings: Vec<Finding>, said: &mut BTreeSet<String>) -> Result<Option<String>, String> {
    let mut trouble = None;
    for Finding { verdict, text } in findings {
        match verdict {
            Verdict::Good => {}
            Verdict::Risky if said.insert(text.clone()) => warn!("{text}"),
            Verdict::Risky => {}
            Verdict::NotYet => trouble = Some(text),
            Verdict::Unfit => return Err(text),
        }
    }
    Ok(trouble)
}

fn unusable(error: &StoreError) -> String {
    format!("the database cannot be used: {error}")
}

/// Logs the findings about another cluster. Fails if a sequence is stuck.
fn tell(found: &Found) -> Result<(), String> {
    if found.has_moved {
        info!(
            "the data came from another cluster; its transactions count as before all of this one"
        );
    }
    for (sequence, number) in &found.moved_ahead {
        warn!(sequence, number, "a sequence was behind the numbers in use; it goes on from there");
    }
    match found.stuck.first() {
        None => Ok(()),
        Some((sequence, number)) => Err(format!(
            "the sequence {sequence} is behind the numbers in use, and this role may not set it; run as its owner: \
             SELECT setval('{sequence}', {number})"
        )),
    }
}
