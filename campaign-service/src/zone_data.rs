//! Time zone data of the system, of a given directory, or of this build. The newest is used.

use crate::store::fitness::{Finding, Verdict};
use campaign_domain::zones::{self, Zones};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::sleep;
use tracing::{info, warn};

/// Directories where systems keep the data, besides the one that TZDIR names.
const SYSTEM_DIRS: [&str; 3] =
    ["/usr/share/zoneinfo", "/usr/share/lib/zoneinfo", "/usr/lib/zoneinfo"];
/// First bytes of every file in the format: RFC 9636, section 3.1.
const MAGIC: &[u8] = b"TZif";
/// Time between checks for newer data.
const LOOK_INTERVAL: Duration = Duration::from_secs(600);
/// Largest file of a zone, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 16;
/// Most zones in a directory.
const MAX_ZONES: usize = 5_000;
/// Most levels of folders below a directory of zones.
const MAX_DEPTH: usize = 4;
/// Oldest age of data that does not count as old, in calendar years. Rules change several times a year.
const MAX_AGE_YEARS: i32 = 1;

/// Time zone data options.
#[derive(Args, Clone, Debug, Default)]
pub struct ZoneArgs {
    /// Directory of time zone data (TZif files and tzdata.zi), beside the system's data and this build's. The newest
    /// data is used
    #[arg(long, env = "CAMPAIGN_TIME_ZONE_DIR")]
    pub time_zone_dir: Option<PathBuf>,
}

impl ZoneArgs {
    /// Installs the newest data and logs its version.
    ///
    /// # Errors
    /// Returns an error if the given directory has no zones.
    pub fn install(&self) -> Result<(), String> {
        zones::install(self.newest()?);
        let held = zones::current();
        info!(version = held.version(), source = held.source(), "time zone data");
        if is_old(held.version()) {
            warn!("{}", how_to_renew(held.version()));
        }
        Ok(())
    }

    /// Checks for newer data every 10 minutes, without end.
    pub async fn follow(self) {
        loop {
            sleep(LOOK_INTERVAL).await;
            let args = self.clone();
            match tokio::task::spawn_blocking(move || args.newest()).await {
                Ok(Ok(found)) if is_newer(&found, &zones::current()) => {
                    info!(
                        version = found.version(),
                        source = found.source(),
                        "newer time zone data"
                    );
                    zones::install(found);
                }
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(error)) => warn!(%error, "time zone data was not read again"),
            }
        }
    }

    /// Reports which data would be used.
    #[must_use]
    pub fn finding(&self) -> Finding {
        match self.newest() {
            Err(text) => Finding { verdict: Verdict::Unfit, text },
            Ok(found) if is_old(found.version()) => {
                Finding { verdict: Verdict::Risky, text: how_to_renew(found.version()) }
            }
            Ok(found) => {
                let text = format!("time zone data {} ({})", found.version(), found.source());
                Finding { verdict: Verdict::Good, text }
            }
        }
    }

    fn newest(&self) -> Result<Zones, String> {
        let mut newest = Zones::bundled();
        let system = std::env::var_os("TZDIR").map(PathBuf::from);
        let system = system.into_iter().chain(SYSTEM_DIRS.map(PathBuf::from));
        for found in system.filter_map(|dir| read(&dir)) {
            if is_newer(&found, &newest) {
                newest = found;
            }
        }
        let Some(dir) = &self.time_zone_dir else { return Ok(newest) };
        let given = read(dir).ok_or_else(|| {
            format!(
                "--time-zone-dir {} has no time zone data; name a directory of TZif files",
                dir.display()
            )
        })?;
        // Data without a version is used because an operator chose the directory.
        let is_chosen = given.version() == UNKNOWN || given.version() >= newest.version();
        Ok(if is_chosen { given } else { newest })
    }
}

/// Version of data that names no version.
const UNKNOWN: &str = "unknown";

fn is_newer(found: &Zones, than: &Zones) -> bool {
    found.version() != UNKNOWN && found.version() > than.version()
}

/// Whether a version, which begins with its year, is too old.
fn is_old(version: &str) -> bool {
    use chrono::Datelike;
    let year: Option<i32> = version.get(..4).and_then(|year| year.parse().ok());
    year.is_some_and(|year| chrono::Utc::now().year() - year > MAX_AGE_YEARS)
}

fn how_to_renew(version: &str) -> String {
    format!(
        "time zone data {version} is older than a year: update the system's tzdata, or give newer data with \
         --time-zone-dir"
    )
}

/// Reads the data in a directory, if there is any.
fn read(dir: &Path) -> Option<Zones> {
    let mut files = Vec::new();
    collect(dir, String::new(), MAX_DEPTH, &mut files);
    // A folder that merely has some TZif file is not a set of zones.
    files.iter().find(|(name, _)| name == "UTC")?;
    Some(Zones::of_files(version_of(dir), dir.display().to_string(), files))
}

fn collect(dir: &Path, prefix: String, depth: usize, files: &mut Vec<(String, Vec<u8>)>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            // These folders repeat the zones, with and without leap seconds.
            if depth > 0 && !matches!(name.as_str(), "posix" | "right") {
                collect(&path, name, depth - 1, files);
            }
        } else if metadata.len() <= MAX_FILE_BYTES
            && files.len() < MAX_ZONES
            && let Ok(file) = fs::read(&path)
            && file.starts_with(MAGIC)
        {
            files.push((name, file));
        }
    }
}

/// Returns the version from the first line of tzdata.zi, or from the file +VERSION.
fn version_of(dir: &Path) -> String {
    let first_line = |name: &str| {
        let text = fs::read_to_string(dir.join(name)).ok()?;
        Some(text.lines().next()?.trim().to_owned())
    };
    let of_source =
        first_line("tzdata.zi").and_then(|line| line.strip_prefix("# version ").map(str::to_owned));
    of_source.or_else(|| first_line("+VERSION")).unwrap_or_else(|| UNKNOWN.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir_of(version: Option<&str>) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("zones-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(dir.join("Europe")).expect("made");
        fs::create_dir_all(dir.join("right")).expect("made");
        // Tokyo's rules under Berlin's name show which rules are in use.
        let tokyo = Path::new(SYSTEM_DIRS[0]).join("Asia/Tokyo");
        let tokyo = fs::read(tokyo).unwrap_or_else(|_| b"TZif2".to_vec());
        fs::write(dir.join("Europe/Berlin"), &tokyo).expect("written");
        fs::write(dir.join("UTC"), &tokyo).expect("written");
        fs::write(dir.join("right/Paris"), &tokyo).expect("written");
        fs::write(dir.join("zone.tab"), "text").expect("written");
        if let Some(version) = version {
            fs::write(dir.join("tzdata.zi"), format!("# version {version}\nR A\n"))
                .expect("written");
        }
        dir
    }

    fn newest(dir: &Path) -> Zones {
        ZoneArgs { time_zone_dir: Some(dir.to_owned()) }.newest().expect("there are zones")
    }

    #[test]
    fn the_newest_data_holds() {
        for (version, is_used) in
            [(Some("2099a"), true), (Some("2001a"), false), (None, true), (Some("2026f"), true)]
        {
            let dir = dir_of(version);
            let found = newest(&dir);
            let source = dir.display().to_string();
            assert_eq!(found.source() == source, is_used, "{version:?} {}", found.version());
            fs::remove_dir_all(dir).expect("removed");
        }
    }

    #[test]
    fn a_directory_without_zones_is_refused_by_name() {
        let dir = std::env::temp_dir().join("no-zones-here");
        let error = ZoneArgs { time_zone_dir: Some(dir) }.newest().expect_err("nothing there");
        assert!(error.contains("--time-zone-dir"), "{error}");
    }

    #[test]
    fn old_data_is_told() {
        assert!(is_old("2001a"));
        assert!(!is_old(Zones::bundled().version()));
        assert!(!is_old(UNKNOWN));
    }
}
