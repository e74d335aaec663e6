//! Program that runs as a process of its own.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// Time between two looks at a program.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Running program, killed when dropped, as by `kill -9`.
#[derive(Debug)]
pub struct Program {
    name: String,
    log: Option<PathBuf>,
    child: Child,
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Program {
    /// Starts a program.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        Self::start_with(command, None)
    }

    /// Starts a program without input and output. Its errors, which are its log, are appended to a file.
    ///
    /// # Errors
    /// When the program cannot be started, or the file cannot be written.
    pub fn start_logging(command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.map_err(|error| because(error, &log.display().to_string()))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        Self::start_with(command, Some(log.to_owned()))
    }

    fn start_with(command: &mut Command, log: Option<PathBuf>) -> Result<Self> {
        let path = Path::new(command.get_program());
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| because(error, &name))?;
        Ok(Self { name, log, child })
    }

    /// Returns the id of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Takes the pipe to the program's input, if it has one.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Takes the pipe from the program's output, if it has one.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Takes the pipe from the program's errors, if it has one.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Returns the status of a program that has ended.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits until the program ends by itself.
    ///
    /// # Errors
    /// When the program does not end in time.
    pub async fn until_ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(self.error(ErrorKind::TimedOut, &format!("did not end in {limit:?}")));
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Waits until the program listens on a loopback port.
    ///
    /// # Errors
    /// When the program ends instead, or does not listen in time.
    pub async fn until_listening(&mut self, port: u16, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let is_listening = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok();
            if let Some(status) = self.ended()? {
                return Err(self.error(ErrorKind::Other, &format!("did not start: {status}")));
            }
            if is_listening {
                return Ok(());
            }
            if Instant::now() > deadline {
                let text = format!("does not listen on port {port} after {limit:?}");
                return Err(self.error(ErrorKind::TimedOut, &text));
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Sends a signal by its name, as in `STOP`. A program that has ended gets none.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn signal(&mut self, name: &str) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        signal(name, [self.id()])
    }

    /// Asks the program to stop, and waits until it has ended. Kills it if it does not.
    ///
    /// # Errors
    /// When the program does not end in time, or ends with a failure.
    pub async fn stop(&mut self, limit: Duration) -> Result<()> {
        self.signal("TERM")?;
        let Ok(status) = self.until_ended(limit).await else {
            self.kill();
            let text = format!("did not stop in {limit:?} and was killed");
            return Err(self.error(ErrorKind::TimedOut, &text));
        };
        if status.success() {
            return Ok(());
        }
        Err(self.error(ErrorKind::Other, &format!("was asked to stop and failed: {status}")))
    }

    /// Kills the program as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) {
        // Only a program that has ended cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Returns a size from `/proc/{id}/status`, such as `VmRSS`, in kibibytes.
    ///
    /// # Errors
    /// When the system does not tell, which only Linux does, or the program has ended.
    pub fn kibibytes(&self, field: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let size = line.and_then(|size| size.trim().trim_end_matches(" kB").parse().ok());
        size.ok_or_else(|| self.error(ErrorKind::Other, &format!("has no {field}")))
    }

    /// Returns an error that names the program and its log.
    fn error(&self, kind: ErrorKind, text: &str) -> Error {
        let log = self.log.as_ref().map(|log| format!("; see {}", log.display()));
        Error::new(kind, format!("{} {text}{}", self.name, log.unwrap_or_default()))
    }
}

/// Sends a signal by its name, as in `STOP`, to processes.
///
/// # Errors
/// When one of the processes is gone, or is not ours. The others get the signal.
pub fn signal(name: &str, ids: impl IntoIterator<Item = u32>) -> Result<()> {
    let ids = ids.into_iter().map(|id| id.to_string());
    let mut kill = Command::new("kill");
    let sent = kill.args(["-s", name]).args(ids).stderr(Stdio::null()).status()?;
    if sent.success() {
        return Ok(());
    }
    Err(Error::other(format!("{kill:?} failed")))
}

fn because(error: Error, what: &str) -> Error {
    Error::new(error.kind(), format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    const LIMIT: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Program {
        let mut command = Command::new("sh");
        Program::start(command.args(["-c", script])).expect("sh runs")
    }

    /// Starts a shell that does this when asked to stop. Returns once it would.
    fn trapping(action: &str) -> Program {
        let script = format!("trap '{action}' TERM; echo ready; while :; do sleep 0.01; done");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdout(Stdio::piped());
        let mut program = Program::start(&mut command).expect("sh runs");
        let mut said = String::new();
        let output = program.take_stdout().expect("its output");
        BufReader::new(output).read_line(&mut said).expect("a line");
        assert_eq!(said, "ready\n");
        program
    }

    fn is_there(id: u32) -> bool {
        Path::new(&format!("/proc/{id}")).exists()
    }

    #[tokio::test]
    async fn a_program_stops_when_asked_and_says_how_it_ended() {
        let mut fine = trapping("exit 0");
        let mut fails = trapping("exit 3");
        fine.stop(LIMIT).await.expect("it stops");
        let error = fails.stop(LIMIT).await.expect_err("it fails").to_string();
        assert_eq!(error, "sh was asked to stop and failed: exit status: 3");
        fine.signal("TERM").expect("it has ended, and gets none");
    }

    #[tokio::test]
    async fn a_program_that_does_not_stop_is_killed() {
        let mut deaf = trapping("");
        let error = deaf.stop(Duration::from_millis(100)).await.expect_err("it is killed");
        assert_eq!(error.to_string(), "sh did not stop in 100ms and was killed");
        assert!(!is_there(deaf.id()));
    }

    #[test]
    fn a_dropped_program_is_gone_also_if_it_stands_still() {
        let mut program = shell("exec sleep 60");
        program.signal("STOP").expect("it stands still");
        let id = program.id();
        assert!(is_there(id) && program.kibibytes("VmRSS").expect("a size") > 0);
        drop(program);
        assert!(!is_there(id));
    }

    #[tokio::test]
    async fn an_end_before_it_listens_is_told_with_the_log() {
        let log = std::env::temp_dir().join(format!("testkit-{}.log", std::process::id()));
        for _ in 0..2 {
            let mut command = Command::new("sh");
            command.args(["-c", "echo no port >&2; exit 1"]);
            let mut program = Program::start_logging(&mut command, &log).expect("sh runs");
            let error = program.until_listening(1, LIMIT).await.expect_err("it ends").to_string();
            let text = format!("sh did not start: exit status: 1; see {}", log.display());
            assert_eq!(error, text);
        }
        let said = std::fs::read_to_string(&log).expect("a log");
        std::fs::remove_file(&log).expect("it is ours");
        assert_eq!(said, "no port\nno port\n", "a log is continued");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let error = Program::start(&mut Command::new("/nowhere/campaign-absent"));
        let error = error.expect_err("it is not there").to_string();
        assert!(error.starts_with("campaign-absent: No such file"), "{error}");
    }
}
