//! PostgreSQL servers of our own, which may be killed.

use std::io::{Error, Result};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Programs of PostgreSQL, and the user that owns its data.
#[derive(Clone, Debug)]
pub struct Binaries {
    folder: PathBuf,
    user: Option<(u32, u32)>,
}

impl Binaries {
    /// Finds the programs.
    ///
    /// # Errors
    /// When they are not installed, or nobody can run them. The text says what to do.
    pub fn find() -> Result<Self> {
        let folder = std::env::var_os("CAMPAIGN_PG_BIN").map(PathBuf::from).or_else(on_path);
        let folder = folder.ok_or_else(|| {
            Error::other(
                "CAMPAIGN_PG_BIN is not set and initdb is not on PATH: this breaks a PostgreSQL of its own; \
                 run `make chaos` or `make test` without DATABASE_URL, or set CAMPAIGN_PG_BIN",
            )
        })?;
        Ok(Self { folder, user: unprivileged()? })
    }

    /// Returns a program, run as the user that owns the data.
    #[must_use]
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.folder.join(name));
        command.current_dir("/").stdin(Stdio::null());
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    /// Lets PostgreSQL own a folder.
    ///
    /// # Errors
    /// When the folder cannot be given away.
    pub fn give(&self, folder: &Path) -> Result<()> {
        let Some((user, group)) = self.user else { return Ok(()) };
        std::os::unix::fs::chown(folder, Some(user), Some(group))
    }

    /// Makes the data of a server whose superuser `campaign` needs no password.
    ///
    /// # Errors
    /// When initdb fails.
    pub fn make_data(&self, data: &Path) -> Result<()> {
        let mut initdb = self.command("initdb");
        initdb.args(["-U", "campaign", "-A", "trust", "-E", "UTF8", "--locale=C", "-N", "-D"]);
        let made = initdb.arg(data).stdout(Stdio::null()).status()?;
        if made.success() { Ok(()) } else { Err(Error::other("initdb failed")) }
    }

    /// Returns a server on this data, with settings such as `fsync=off`. It listens on a loopback port only.
    #[must_use]
    pub fn server(&self, data: &Path, port: u16, settings: &[&str]) -> Command {
        let port = format!("port={port}");
        let own = ["listen_addresses=127.0.0.1", "unix_socket_directories=", &port];
        let mut server = self.command("postgres");
        server.arg("-D").arg(data);
        server.args(own.iter().chain(settings).flat_map(|setting| ["-c", *setting]));
        server
    }
}

/// Returns the folder of initdb on `PATH`, also if a link leads there.
fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).find(|folder| folder.join("initdb").exists())?;
    std::fs::canonicalize(found.join("initdb")).ok()?.parent().map(Path::to_owned)
}

/// Returns the user and group to run PostgreSQL as, if we are root.
///
/// # Errors
/// When we are root, and there is no such user.
pub fn unprivileged() -> Result<Option<(u32, u32)>> {
    if id(&["-u"]) != Some(0) {
        return Ok(None);
    }
    let found = ["postgres", "nobody"]
        .iter()
        .find_map(|name| Some((id(&["-u", name])?, id(&["-g", name])?)));
    let none = "run this as an ordinary user: there is neither a user postgres nor nobody";
    found.map(Some).ok_or_else(|| Error::other(none))
}

fn id(args: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(args).stderr(Stdio::null()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
