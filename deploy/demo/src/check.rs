//! Checks at the end: the totals, and the provider's own log against numbers that must not have
//! been dialled.

use crate::api::{Api, number, text};
use crate::result::Result;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use tokio::task::JoinSet;

/// Histories asked for at the same time.
const CONCURRENT_REQUESTS: usize = 64;

/// Line of the provider's log.
#[derive(Debug, Deserialize)]
pub struct Dial {
    pub event: String,
    pub contact: String,
    pub attempt_id: String,
    pub unix_millis: i64,
}

/// Reads the provider's dials.
pub fn dials(log: &Path) -> Result<Vec<Dial>> {
    let text = std::fs::read_to_string(log)?;
    let lines =
        text.lines().map(serde_json::from_str).collect::<std::result::Result<Vec<Dial>, _>>()?;
    Ok(lines.into_iter().filter(|dial| dial.event == "dialed").collect())
}

/// Prints a line of the final report: what holds, or what does not.
pub fn verdict(what: &str, violations: usize) -> Result<()> {
    println!("  {} {what}", if violations == 0 { "ok  " } else { "FAIL" });
    if violations == 0 { Ok(()) } else { Err(format!("broken {violations} times: {what}").into()) }
}

/// Returns the sum of a progress's buckets, and its total.
pub fn sums(progress: &Value) -> (i64, i64) {
    let buckets = ["waiting", "waitingRetry", "leased", "inCall"];
    let kept: i64 = buckets.iter().map(|bucket| number(&progress[*bucket])).sum();
    (kept + removed(progress).values().sum::<i64>(), number(&progress["total"]))
}

/// Returns the number of contacts by the reason that removes them.
pub fn removed(answer: &Value) -> BTreeMap<String, i64> {
    let list = answer["removed"].as_array().cloned().unwrap_or_default();
    let short = |reason: &Value| text(reason).replace("EXCLUSION_REASON_", "").to_lowercase();
    list.iter().map(|entry| (short(&entry["reason"]), number(&entry["contacts"]))).collect()
}

/// Returns the names of all contacts of a campaign.
pub async fn contact_names(api: &Api, campaign: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let request = json!({ "parent": campaign, "pageSize": 1000, "pageToken": token });
        let page = api.call("campaign.v1.ContactService/ListContacts", &request).await?;
        for contact in page["contacts"].as_array().into_iter().flatten() {
            names.push(text(&contact["name"]));
        }
        token = text(&page["nextPageToken"]);
        if token.is_empty() {
            return Ok(names);
        }
    }
}

/// Returns the histories of contacts, by name.
pub async fn histories(api: &Api, names: &[String]) -> Result<HashMap<String, Value>> {
    let mut histories = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut left = names.iter().cloned();
    loop {
        while tasks.len() < CONCURRENT_REQUESTS {
            let Some(name) = left.next() else { break };
            let api = api.clone();
            tasks.spawn(async move {
                let request = json!({ "name": name, "pageSize": 1 });
                let history = api.call("campaign.v1.ContactService/GetContactHistory", &request);
                let history = history.await.map_err(|error| error.to_string())?;
                Ok::<_, String>((name, history))
            });
        }
        let Some(done) = tasks.join_next().await else { return Ok(histories) };
        let (name, history) = done??;
        histories.insert(name, history);
    }
}
