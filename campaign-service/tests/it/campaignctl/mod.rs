//! Tests of `campaignctl` against a running service.

mod commands;
mod imports;
mod lifecycle;
mod terminal;
mod ways_in;

use super::support::access::Folder;
use super::support::processes::beside;
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// Exit codes, as `campaignctl --help` has them.
const DONE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NOT_FOUND: i32 = 3;
const REFUSED: i32 = 4;
const UNAVAILABLE: i32 = 5;
const NOT_ALLOWED: i32 = 6;
const IN_PART: i32 = 7;

/// User of `campaignctl`, with a home folder that is removed with this value.
struct Ctl {
    url: String,
    home: Folder,
}

/// Result of a command.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ctl {
    fn new(url: &str) -> Self {
        Self { url: url.to_owned(), home: Folder::new() }
    }

    fn file(&self, name: &str, text: &str) -> String {
        self.home.write(name, text).display().to_string()
    }

    fn path(&self, name: &str) -> String {
        self.home.path(name).display().to_string()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(beside("campaignctl"));
        self.surround(&mut command);
        command.args(args).stdin(Stdio::null());
        command
    }

    /// Gives a command this home and this service. Nothing of the environment of the test reaches it. Except: `PATH`.
    fn surround(&self, command: &mut Command) {
        let path = std::env::var("PATH").unwrap();
        command.env_clear().env("PATH", path).env("HOME", self.home.path("")).env("USER", "ann");
        if !self.url.is_empty() {
            command.env("CAMPAIGNCTL_SERVICE_URL", &self.url);
        }
    }

    async fn run(&self, args: &[&str]) -> Ran {
        ran(self.command(args)).await
    }

    /// Runs a command with this standard input.
    async fn run_with(&self, args: &[&str], input: &str) -> Ran {
        let (mut command, input) = (self.command(args), input.to_owned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let run = move || {
            let mut child = command.spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            // A command that rejects a flag does not read its input.
            let _ = stdin.write_all(input.as_bytes());
            drop(stdin);
            child.wait_with_output().unwrap()
        };
        Ran::of(tokio::task::spawn_blocking(run).await.unwrap())
    }

    /// Runs a command that succeeds. Returns what it prints.
    async fn text(&self, args: &[&str]) -> String {
        let ran = self.run(args).await;
        assert_eq!(ran.code, DONE, "{args:?}: {ran:?}");
        ran.out
    }

    /// Runs a command that succeeds. Returns its JSON.
    async fn json(&self, args: &[&str]) -> Value {
        let text = self.text(&[args, &["-o", "json"]].concat()).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    }

    /// Runs a command that fails with `code`. Returns its message.
    async fn refused(&self, args: &[&str], code: i32) -> String {
        let ran = self.run(args).await;
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        assert!(ran.err.starts_with("campaignctl: ") || code == USAGE, "{args:?}: {ran:?}");
        ran.err
    }

    /// Creates a campaign that may call at any hour. Returns its name.
    async fn create(&self, display_name: &str) -> String {
        let args = ["campaigns", "create", display_name, "--description", "For tests"];
        let hours = ["--time-zone", "Europe/Berlin", "--window", "mon-sun=00:00-24:00"];
        let created = self.json(&[&args[..], &hours].concat()).await;
        created["name"].as_str().unwrap().to_owned()
    }
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().expect("it was not killed"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

async fn ran(mut command: Command) -> Ran {
    Ran::of(tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap())
}

/// Waits for a command that was started with pipes.
async fn finished(child: Child) -> Ran {
    let wait = move || child.wait_with_output().unwrap();
    Ran::of(tokio::task::spawn_blocking(wait).await.unwrap())
}

/// Returns a CSV of contacts. Each of `numbers` gives one phone number of `phone`.
fn csv(numbers: impl Iterator<Item = usize>) -> String {
    let rows = numbers.map(|n| format!("{},Contact {n}\n", super::support::phone(n)));
    format!("phone_number,display_name\n{}", rows.collect::<String>())
}

fn exists(path: &str) -> bool {
    Path::new(path).exists()
}
