//! Person who calls in, played by sipp.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::sipp::run;
use crate::{Result, Traffic};

/// Longest call.
const CALL_LIMIT: Duration = Duration::from_secs(40);

/// Person who calls in.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Content of the From header, without its tag.
    pub from: String,
    /// Number called.
    pub called: String,
    /// Pause before the next step, hanging up or giving up, in milliseconds.
    pub pause_millis: u32,
    /// Transport of the messages.
    pub traffic: Traffic,
}

impl Caller {
    /// Creates a person who calls from this number and hangs up after 1 second.
    #[must_use]
    pub fn new(number: &str) -> Self {
        Self {
            from: format!("<sip:{number}@127.0.0.1>"),
            called: "100".to_owned(),
            pause_millis: 1_000,
            traffic: Traffic::Udp,
        }
    }

    /// Plays the scenario `scenarios/{name}.xml` once, to its end. Returns its log, line by line: the code of each
    /// final answer, and how many seconds later to call again.
    ///
    /// # Errors
    /// When sipp is missing, or the call did not go as in the scenario.
    pub async fn call(&self, name: &str, target: &str) -> Result<Vec<String>> {
        let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("scenarios/{name}.xml"));
        let folder = std::env::temp_dir().join(format!("sipp-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder)?;
        let mut sipp = Command::new("sipp");
        sipp.arg(target)
            .arg("-sf")
            .arg(scenario)
            .args(["-i", "127.0.0.1", "-m", "1", "-nostdin", "-s", &self.called])
            .args(["-t", self.traffic.flag()])
            .args(["-d", &self.pause_millis.to_string(), "-key", "caller", &self.from])
            .args(["-trace_logs", "-log_file", "log", "-trace_err", "-error_file", "errors"])
            .args(["-buff_size", "200000", "-skip_rlimit"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let ended = run(&mut sipp)?.until_ended(CALL_LIMIT).await;
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        let (log, errors) = (read("log"), read("errors"));
        std::fs::remove_dir_all(&folder)?;
        if !ended.is_ok_and(|status| status.success()) {
            return Err(format!("the call did not go as in {name}.xml: {log} {errors}").into());
        }
        Ok(log.lines().map(|line| line.trim().to_owned()).collect())
    }
}
