//! Test of the demo, with every printed grpcurl line run as printed.

mod running;

use running::{Database, variable};
use std::process::Command;

/// Most columns of a line; the last ones belong to addresses and paths, whose length varies.
const COLUMNS: usize = 124;

#[test]
fn every_line_of_the_demo_works_as_printed() {
    let database = Database::new("demo");
    let folder = format!("{}/demo-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let output = Command::new(env!("CARGO_BIN_EXE_campaign-demo"))
        .args(["--grpcurl", &variable("CAMPAIGN_GRPCURL"), "--folder", &folder])
        .env("DATABASE_URL", database.url())
        .output()
        .expect("the demo runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert_eq!(text.matches("  ok  ").count(), 5, "{text}");
    let short = text.replace(&folder, "target/demo");
    for line in short.lines() {
        assert!(line.chars().count() <= COLUMNS, "too long for a screen: {line}");
    }
    check_advice(&text);
    check_file(&text, &format!("{folder}/demo.log"));
    std::fs::remove_dir_all(folder).expect("the folder of the demo is removed");
}

/// Checks that the file holds each printed command in full, in order, and an answer after each.
fn check_file(text: &str, file: &str) {
    let full = std::fs::read_to_string(file).expect("the demo's file");
    let commands: Vec<&str> = full.lines().filter(|line| line.starts_with("grpcurl ")).collect();
    let printed = text.replace(" \\\n     ", "");
    let printed: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("  $ ")).collect();
    assert_eq!(commands.len(), printed.len(), "{text}\n{full}");
    assert_eq!(full.matches("\n# {").count(), commands.len(), "an answer to each: {full}");
    let mut cut = 0;
    for (command, printed) in commands.iter().zip(printed) {
        let Some((begin, end)) = printed.split_once("…'") else {
            assert_eq!(*command, printed);
            continue;
        };
        cut += 1;
        assert!(command.starts_with(begin) && command.ends_with(end), "{printed}\n{command}");
    }
    assert!(cut >= 3, "long requests are cut: {text}");
}

/// Checks that the demo ends with the three lines that `make serve` prints.
fn check_advice(text: &str) {
    let print = "import serve; print(serve.advice('target/debug', serve.DEFAULT_LISTEN, True))";
    let advice = Command::new("python3")
        .args(["-c", print])
        .env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/../local"))
        .output()
        .expect("python3 runs");
    let advice = String::from_utf8_lossy(&advice.stdout);
    let lines: Vec<&str> = advice.lines().filter(|line| line.starts_with("  ")).collect();
    assert_eq!(lines.len(), 3, "{advice}");
    assert!(text.trim_end().ends_with(&lines.join("\n")), "{text}\n{advice}");
}
