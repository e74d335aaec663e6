//! Running sipp.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use campaign_testkit::{Program, free_port};
use tokio::time::{Instant, sleep};

use crate::STOP_LIMIT;

/// Longest wait for sipp to listen.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Transport of SIP messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Datagrams.
    Udp,
    /// Connections.
    Tcp,
}

impl Traffic {
    /// Returns the value of sipp's `-t`: all calls on one socket.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Self::Udp => "u1",
            Self::Tcp => "t1",
        }
    }

    /// Returns the value of the worker's `--sip-transport`.
    #[must_use]
    pub fn transport(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// INVITE that began a call, as sipp logged it. A repeated INVITE is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// Call-ID of the call.
    pub call_id: String,
    /// Number called.
    pub number: String,
}

/// Running sipp that plays a scenario; killed when dropped.
#[derive(Debug)]
pub struct Sipp {
    program: Program,
    folder: PathBuf,
    port: u16,
}

impl Drop for Sipp {
    fn drop(&mut self) {
        // The kill comes at once, so that the folder is not written to any more.
        self.program.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Returns the part of a scenario that receives a request, counts it under a name and answers 200.
#[must_use]
pub fn takes(request: &str, counter: &str) -> String {
    format!(
        "<recv request=\"{request}\" counter=\"{counter}\"/><send><![CDATA[\n\nSIP/2.0 200 OK\n[last_Via:]\n\
         [last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]\nContent-Length: 0\n\n]]></send>"
    )
}

/// Returns the text of a scenario of this project.
fn scenario(name: &str) -> Result<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("scenarios/{name}.xml"));
    std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
}

impl Sipp {
    /// Plays the scenario `scenarios/{name}.xml` on a free port.
    ///
    /// # Errors
    /// When sipp is missing or does not start; the text says what to do.
    pub async fn start(name: &str, traffic: Traffic, options: &[&str]) -> Result<Self, String> {
        Self::start_on(free_port(), name, traffic, options).await
    }

    /// Plays a scenario like `start`, with words in square brackets replaced. Needed where sipp
    /// wants a number in the scenario itself.
    ///
    /// # Errors
    /// The errors of `start`.
    pub async fn start_with(
        name: &str,
        traffic: Traffic,
        words: &[(&str, &str)],
    ) -> Result<Self, String> {
        let mut text = scenario(name)?;
        for (word, value) in words {
            text = text.replace(&format!("[{word}]"), value);
        }
        Self::play(free_port(), &text, traffic, &[]).await
    }

    /// Plays a scenario like `start`, on a port that the caller chooses.
    ///
    /// # Errors
    /// The errors of `start`.
    pub async fn start_on(
        port: u16,
        name: &str,
        traffic: Traffic,
        options: &[&str],
    ) -> Result<Self, String> {
        Self::play(port, &scenario(name)?, traffic, options).await
    }

    async fn play(
        port: u16,
        scenario: &str,
        traffic: Traffic,
        options: &[&str],
    ) -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("sipp-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let output = |name: &str| {
            let path = folder.join(name);
            std::fs::File::create(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let file = folder.join("scenario.xml");
        std::fs::write(&file, scenario).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut sipp = Command::new("sipp");
        sipp.arg("-sf")
            .arg(file)
            .args(["-i", "127.0.0.1", "-p", &port.to_string(), "-nostdin", "-aa"])
            .args(["-t", traffic.flag()])
            .args(["-trace_stat", "-stf", "stat.csv", "-fd", "1"])
            .args(["-trace_logs", "-log_file", "log", "-trace_rtt", "-rtt_freq", "1"])
            .args(["-trace_err", "-error_file", "errors"])
            .args(["-buff_size", "2000000", "-skip_rlimit"])
            .args(options)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(output("screen")?)
            .stderr(output("stderr")?);
        let mut sipp = Self { program: run(&mut sipp)?, folder, port };
        sipp.wait_until_up(traffic).await?;
        Ok(sipp)
    }

    async fn wait_until_up(&mut self, traffic: Traffic) -> Result<(), String> {
        // Columns: local address, remote address, state. State 0A listens.
        let (table, state) = match traffic {
            Traffic::Udp => ("/proc/net/udp", ""),
            Traffic::Tcp => ("/proc/net/tcp", "0A "),
        };
        let bound = format!(": 0100007F:{:04X} 00000000:0000 {state}", self.port);
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let listening = std::fs::read_to_string(table).map_err(|error| error.to_string())?;
            if listening.contains(&bound) {
                return Ok(());
            }
            let ended = self.program.ended().map_err(|error| error.to_string())?;
            if ended.is_some() || Instant::now() > deadline {
                let said = self.read("stderr") + &self.read("errors");
                return Err(format!("sipp did not start: {}", said.trim()));
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns the address at which sipp accepts calls.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills sipp as it is, and waits until it is gone.
    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// Stops sipp after the calls in progress, so that its books are complete.
    ///
    /// # Errors
    /// When calls do not end.
    pub async fn finish(&mut self) -> Result<(), String> {
        self.program.signal("USR1").map_err(|error| error.to_string())?;
        match self.program.until_ended(STOP_LIMIT).await {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("sipp has calls that do not end: {:?}", self.counts())),
        }
    }

    /// Returns sipp's statistics, which it writes anew each second: sums by name, as in the columns of its file.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let text = self.read("stat.csv");
        let mut lines = text.lines();
        let names = lines.next().unwrap_or_default().split(';');
        let values = lines.last().unwrap_or_default().split(';');
        let named = names.zip(values).filter_map(|(name, value)| {
            let name = name.strip_suffix("(C)").or((name == "CurrentCall").then_some(name))?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        named.collect()
    }

    /// Returns one of the statistics; 0 if it does not exist.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.counts().get(name).copied().unwrap_or(0)
    }

    /// Returns the calls that sipp got, in order.
    #[must_use]
    pub fn invites(&self) -> Vec<Invite> {
        let text = self.read("log");
        let invites = text.lines().filter_map(|line| {
            let (call_id, number) = line.trim().rsplit_once(' ')?;
            let call_id = call_id.rsplit(' ').next()?.to_owned();
            Some(Invite { call_id, number: number.to_owned() })
        });
        invites.collect()
    }

    /// Returns what the scenario logged behind some words.
    #[must_use]
    pub fn logged(&self, words: &str) -> Vec<String> {
        let text = self.read("log");
        let behind = text.lines().filter_map(|line| line.split_once(words));
        behind.map(|(_, value)| value.trim().to_owned()).collect()
    }

    /// Returns the times that the scenario measures, in milliseconds.
    #[must_use]
    pub fn times_millis(&self) -> Vec<f64> {
        let files = std::fs::read_dir(&self.folder).into_iter().flatten().filter_map(Result::ok);
        let is_it = |name: &str| name.ends_with("_rtt.csv");
        let found = files.map(|file| file.file_name().to_string_lossy().into_owned());
        let text: String = found.filter(|name| is_it(name)).map(|name| self.read(&name)).collect();
        // Columns: time, milliseconds, name.
        text.lines().filter_map(|line| line.split(';').nth(1)?.trim().parse().ok()).collect()
    }

    /// Returns sipp's log of errors.
    #[must_use]
    pub fn errors(&self) -> String {
        self.read("errors")
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }
}

/// Starts sipp.
///
/// # Errors
/// When sipp is missing; the text says what to do.
pub(crate) fn run(sipp: &mut Command) -> Result<Program, String> {
    let advice = "install sip-tester (apt-get install sip-tester)";
    Program::start(sipp).map_err(|error| format!("sipp does not start ({error}): {advice}"))
}
