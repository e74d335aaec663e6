//! What has to be so before the service serves.

use crate::store::clusters::{self, Found};
use crate::store::fitness::{self, Finding, Verdict};
use crate::store::{Db, StoreError};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::sleep;
use tracing::{info, warn};

/// How often a database that cannot be used yet is looked at.
const WAIT_INTERVAL: Duration = Duration::from_secs(1);

/// Waits until the database is there, takes writes and has all in its schema that this version needs; then goes on
/// where another cluster left off.
///
/// # Errors
/// When the database cannot be used before somebody changes it; says what to do.
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

/// Why the database cannot be used yet, if so. Risks are told once.
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

/// Says what was found of another cluster.
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
