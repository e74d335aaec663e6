//! Paths of programs.

use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// Finds a program in the folder of `built`, any program of the same build.
///
/// # Errors
/// When the program is not there. The text says how to build it.
pub fn beside(built: &Path, name: &str) -> Result<PathBuf> {
    let path = built.with_file_name(name);
    if path.exists() {
        return Ok(path);
    }
    let is_release = built.parent().is_some_and(|folder| folder.ends_with("release"));
    let build = if is_release { "cargo build --workspace --release" } else { "make build" };
    let text = format!("{} is not there; run `{build}`", from_here(&path).display());
    Err(Error::new(ErrorKind::NotFound, text))
}

/// Shortens a path below the current folder.
#[must_use]
pub fn from_here(path: &Path) -> PathBuf {
    let here = std::env::current_dir().ok();
    let short = here.and_then(|here| path.strip_prefix(here).ok());
    short.unwrap_or(path).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_the_command_that_builds_it() {
        let here = std::env::current_dir().expect("a folder");
        for (profile, build) in
            [("debug", "make build"), ("release", "cargo build --workspace --release")]
        {
            let built = here.join("target").join(profile).join("chaos");
            let error = beside(&built, "absent").expect_err("it is not there");
            let text = format!("target/{profile}/absent is not there; run `{build}`");
            assert_eq!(error.to_string(), text);
        }
        let own = std::env::current_exe().expect("a program");
        let name = own.file_name().and_then(|name| name.to_str()).expect("a name");
        assert_eq!(beside(&own, name).expect("it is there"), own);
    }
}
