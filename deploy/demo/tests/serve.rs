//! Test of what `make serve` runs: each line that it prints works as printed, and the client in Python beside them.

mod running;

use campaign_testkit::Program;
use running::{Database, variable};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Number of lines that the script prints once the service is ready.
const LINES: usize = 5;
/// Times that the client in Python runs beside the worker: more than the cap of attempts on a number in 24 hours.
const CLIENT_RUNS: usize = 5;

#[test]
fn each_line_that_make_serve_prints_works_and_the_python_client_beside_them() {
    let database = Database::new("serve");
    let programs = Path::new(env!("CARGO_BIN_EXE_campaign-demo")).parent().expect("a folder");
    let mut service = Command::new("python3");
    service
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../local/serve.py"))
        .arg(programs)
        .env("DATABASE_URL", database.url())
        .env("CAMPAIGN_LISTEN", "127.0.0.1:0")
        .stdout(Stdio::piped());
    let mut service = Program::start(&mut service).expect("python3 runs");
    let said = BufReader::new(service.take_stdout().expect("its output"));
    let said: Vec<String> = said.lines().take(LINES).map_while(Result::ok).collect();
    assert_eq!(said.len(), LINES, "{said:?}");
    let typed = |line: &String| line.split("    # ").next().unwrap_or_default().trim().to_owned();
    let [worker, campaignctl, grpcurl] = [2, 3, 4].map(|line| typed(&said[line]));

    let mut shell = Command::new("sh");
    let mut worker =
        Program::start(shell.args(["-c", &format!("exec {worker}")])).expect("sh runs");
    let answer = run(&campaignctl);
    assert!(answer.contains("127.0.0.1"), "{answer}");
    let answer = run(&format!("alias grpcurl='{}'\n{grpcurl}", variable("CAMPAIGN_GRPCURL")));
    assert!(answer.contains("campaign.v1.CampaignService"), "{answer}");
    let address = grpcurl.split(' ').nth(2).expect("an address");
    for _ in 0..CLIENT_RUNS {
        let client = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/python_client.py");
        let path = variable("CAMPAIGN_PYTHONPATH");
        let answer = run(&format!("PYTHONPATH='{path}' python3 '{client}' {address}"));
        assert!(answer.ends_with("ok\n"), "{answer}");
    }
    assert!(worker.ended().expect("its state").is_none(), "the worker ended");
}

/// Runs a line in a shell. Returns what it printed.
fn run(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().expect("sh");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{line}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}
