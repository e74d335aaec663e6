//! Folder and workers of the demo.

use crate::result::Result;
use campaign_testkit::{Program, Programs, from_here};
use std::path::{Path, PathBuf};

/// Log of the simulated provider.
pub const DIALS: &str = "dials.jsonl";

/// Returns the folder `demo` beside the folder of our programs: `target/demo`.
pub fn default_folder() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.parent().and_then(Path::parent).ok_or("this program is in no folder")?;
    Ok(from_here(&target.join("demo")))
}

/// Finds the programs, and makes the folder of their logs. Removes the log of an earlier demo's dials, which workers
/// continue.
pub fn programs(folder: PathBuf) -> Result<Programs> {
    let programs = Programs::new(std::env::current_exe()?, folder)?;
    match std::fs::remove_file(programs.logs().join(DIALS)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(programs),
    }
}

/// Starts a worker that simulates its calls five hundred times faster than real time.
pub fn start_worker(programs: &Programs, number: usize, address: &str) -> Result<Program> {
    let dials = programs.logs().join(DIALS).display().to_string();
    let simulated = ["--time-scale", "0.002", "--seed", "7", "--dial-log", &dials];
    let flags = [&["--max-calls", "100"], &simulated[..]].concat();
    Ok(programs.worker(&format!("worker-{number}"), address, &flags)?)
}
