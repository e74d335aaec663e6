//! Calls through the worker's providers beside sipp calling sipp, without the service. deploy/sip measures them.

use crate::args::Args;
use crate::report::{Figure, Measure};
use crate::service::beside_service;
use crate::stats::median;
use serde_json::{Value, json};
use std::process::Command;

/// Caller with which the others are compared.
const REFERENCE: &str = "sipp, UDP";
/// Measures, with their titles in the table and their units. The rate is limited to 1,000 a second, unless
/// BENCH_SIP_CALLS_PER_SECOND says otherwise: above the machine's capacity, datagrams are lost.
const MEASURES: [(&str, &str, &str); 3] = [
    ("rate", "calls, rate limited", "calls/s"),
    ("cpu", "processor for 1,000 calls", "ms"),
    ("in_progress", "1,000 calls in progress", "% CPU"),
];

/// Message when sipp is not installed.
pub const MISSING: &str = "sipp is missing, which the part `calls` needs: apt-get install sip-tester; or \
     leave it out: BENCH_ONLY with the names of the other parts (--help lists them)";

pub fn has_sipp() -> bool {
    // sipp says its version and fails.
    Command::new("sipp").arg("-v").output().is_ok()
}

pub async fn run(args: Args) -> Vec<Figure> {
    let rounds: Vec<Vec<Value>> = (0..args.rounds).map(|_| measure()).collect();
    MEASURES.iter().flat_map(|measure| figures(*measure, &rounds)).collect()
}

/// Measures one round.
fn measure() -> Vec<Value> {
    let program = beside_service("bench-sip");
    let file = std::env::temp_dir().join(format!("calls-{}.json", std::process::id()));
    let status = Command::new(program).arg("--json").arg(&file).status().unwrap();
    assert!(status.success(), "bench-sip failed, see above");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Returns a figure for each caller except the reference: the medians of both.
fn figures(
    (measure, title, unit): (&str, &str, &'static str),
    rounds: &[Vec<Value>],
) -> Vec<Figure> {
    let of = |caller: &Value| {
        let is_it = |row: &&Value| row["measure"] == measure && row["caller"] == *caller;
        let rows: Vec<&Value> = rounds.iter().flatten().filter(is_it).collect();
        let values: Vec<f64> = rows.iter().map(|row| row["value"].as_f64().unwrap()).collect();
        let details: Vec<&Value> = rows.iter().map(|row| &row["detail"]).collect();
        let name = format!("{title}: {}", caller.as_str().unwrap());
        let detail = json!({ "rounds": values, "details": details });
        Measure { name, value: median(&values), detail }
    };
    let reference = of(&REFERENCE.into());
    let rows = rounds.first().into_iter().flatten();
    let callers = rows.filter(|row| row["measure"] == measure && row["caller"] != REFERENCE);
    callers.map(|row| Figure::new(unit, of(&row["caller"])).beside(reference.clone())).collect()
}
