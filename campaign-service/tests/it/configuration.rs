//! Sources of options: flags, the environment, a file, and a file that changes.

use crate::support::access::Folder;
use crate::support::processes::{campaign_service, dialer_worker};
use crate::support::{Clients, PATIENCE, TestDb};
use campaign_testkit::Program;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// Runs a program with these flags. Returns whether it succeeded, and what it printed.
fn run(mut program: Command, flags: &[&str]) -> (bool, String) {
    let output = program.args(flags).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn service(file: &str, flags: &[&str]) -> (bool, String) {
    let folder = Folder::new();
    let file = folder.write("options.toml", file);
    let mut program = campaign_service();
    program.env_remove("DATABASE_URL").env("CAMPAIGN_CONFIG_FILE", file);
    program.env("CAMPAIGN_MAX_BATCH_CONTACTS", "22");
    run(program, &[&["serve"], flags].concat())
}

const GOOD: &str = r#"
database_url = "postgres://somebody:a-secret@db.example/campaigns"
lease_ttl_seconds = 11
max_batch_contacts = 12
max_requests = 13
insecure_no_authentication = true
log = "warn"
"#;

#[test]
fn flags_come_before_the_environment_and_that_before_a_file() {
    let (is_good, shown) = service(GOOD, &["--print-config", "--max-requests", "33"]);
    assert!(is_good, "{shown}");
    for line in [
        "lease_ttl_seconds = 11  # file",
        "max_batch_contacts = 22  # environment, CAMPAIGN_MAX_BATCH_CONTACTS",
        "max_requests = 33  # flag",
        "max_streams = 10000  # default",
        "insecure_no_authentication = true  # file",
        "log = \"warn\"  # file",
        "database_url = \"(not shown)\"  # file",
        "# token_issuer is not set",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "no {line:?} in:\n{shown}");
    }
    assert!(!shown.contains("a-secret"), "{shown}");
    // The output can serve as a file. Except: it leaves out secrets.
    let again = shown.replace("(not shown)", "postgres://db.example/campaigns");
    let (is_good, shown) = service(&again, &["--print-config"]);
    assert!(is_good && shown.contains("max_requests = 33  # file"), "{shown}");
}

#[test]
fn what_is_wrong_in_a_file_is_refused_and_named() {
    let url = "database_url = \"postgres://db.example/campaigns\"\n";
    for (file, named) in [
        ("lease_ttl_second = 11", "\"lease_ttl_second\" is not an option"),
        ("print_config = true", "\"print_config\" is not an option"),
        ("lease-ttl-seconds = 11", "\"lease-ttl-seconds\" is not an option"),
        ("lease_ttl_seconds = 0", "--lease-ttl-seconds"),
        ("lease_ttl_seconds = [1]", "lease_ttl_seconds must be a text or a number"),
        ("insecure_no_authentication = 1", "insecure_no_authentication must be true or false"),
        // Options that contradict each other as flags do so in a file, too.
        ("tls_cert_file = \"cert.pem\"", "--tls-key-file"),
        ("token_jwks_file = \"keys.json\"", "--token-audience"),
        ("lease_ttl_seconds = ", "options.toml"),
    ] {
        let (is_good, shown) = service(&format!("{url}{file}"), &["--print-config"]);
        assert!(!is_good && shown.contains(named), "{file}: no {named:?} in:\n{shown}");
    }
    let absent = ["--config-file", "/nowhere/options.toml", "--print-config"];
    let (is_good, shown) = service(url, &absent);
    assert!(!is_good && shown.contains("/nowhere/options.toml cannot be read"), "{shown}");
}

#[test]
fn the_worker_reads_lists_from_its_file() {
    let folder = Folder::new();
    let file = folder.write(
        "options.toml",
        "service_url = [\"http://a:1\", \"http://b:2\"]\nmax_calls = 7\ntime_scale = 0.5\n",
    );
    let mut program = dialer_worker();
    program.arg("--config-file").arg(file);
    let (is_good, shown) = run(program, &["--print-config"]);
    assert!(is_good, "{shown}");
    for line in [
        "service_url = [\"http://a:1\", \"http://b:2\"]  # file",
        "max_calls = 7  # file",
        "max_unacknowledged_reports = 10000  # default",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "no {line:?} in:\n{shown}");
    }
}

/// Returns the lines of the log up to one that says this.
fn until(lines: &Receiver<String>, what: &str) -> Vec<String> {
    let mut said = Vec::new();
    while !said.last().is_some_and(|line: &String| line.contains(what)) {
        said.push(lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("never said: {what}")));
    }
    said
}

/// Starts a service with these flags and this file. Returns it with the lines that it logs.
fn start(db: &TestDb, file: &Path, flags: &[&str]) -> (Program, Receiver<String>) {
    let mut service = campaign_service();
    service
        .args(["serve", "--listen", "127.0.0.1:0", "--chore-interval-millis", "50"])
        .args(flags)
        .env("DATABASE_URL", &db.url)
        .arg("--config-file")
        .arg(file)
        .stderr(Stdio::piped());
    let mut service = Program::start(&mut service).unwrap();
    let (sender, lines) = channel();
    let errors = BufReader::new(service.take_stderr().unwrap());
    std::thread::spawn(move || {
        errors.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    (service, lines)
}

#[tokio::test]
async fn a_changed_log_level_is_in_use_without_a_restart() {
    let (db, folder) = (TestDb::new().await, Folder::new());
    let file = folder.write("options.toml", "log = \"info\"\nmax_requests = 7\n");
    let (_service, lines) = start(&db, &file, &[]);
    let serving = until(&lines, "serving").pop().unwrap();
    let address = serving.rsplit("address=").next().unwrap().trim();
    let mut caller = Clients::connect(&format!("http://{address}")).await;
    // At level `info`, requests are not logged.
    caller.create_campaign().await;
    folder.write("options.toml", "log = \"debug\"\nmax_requests = 8\n");
    let said = until(&lines, "what is logged changed");
    assert!(!said.iter().any(|line| line.contains("DEBUG")), "{said:?}");
    until(&lines, "options=\"max_requests\"");
    caller.create_campaign().await;
    until(&lines, "DEBUG");
    // An invalid file changes nothing, and is logged.
    folder.write("options.toml", "log = \"no=such=level\"\n");
    until(&lines, "the options from before stay in use");
    caller.create_campaign().await;
    until(&lines, "DEBUG");
}

#[tokio::test]
async fn a_log_level_that_a_flag_gave_is_no_files_to_change() {
    let (db, folder) = (TestDb::new().await, Folder::new());
    let file = folder.write("options.toml", "max_requests = 7\n");
    let (_service, lines) = start(&db, &file, &["--log", "info"]);
    until(&lines, "serving");
    folder.write("options.toml", "log = \"error\"\nmax_requests = 8\n");
    let said = until(&lines, "options=\"max_requests\"");
    assert!(!said.iter().any(|line| line.contains("what is logged changed")), "{said:?}");
}
