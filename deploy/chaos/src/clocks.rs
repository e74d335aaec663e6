//! Clocks of replicas that jump, by libfaketime (Debian package faketime) if it is installed. The clock of timers is
//! left alone, as when a machine's time is set.

use crate::Result;
use std::path::{Path, PathBuf};

/// Paths at which Debian and others put the library.
const LIBRARIES: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
    "/usr/local/lib/faketime/libfaketime.so.1",
];

/// Clocks of all replicas.
#[derive(Debug)]
pub struct Clocks {
    folder: PathBuf,
    library: Option<PathBuf>,
}

/// Returns the library by which clocks can jump, if it is installed.
#[must_use]
pub fn library() -> Option<PathBuf> {
    LIBRARIES.iter().map(PathBuf::from).find(|path| path.exists())
}

impl Clocks {
    /// Creates clocks that are right at first.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), library: library() }
    }

    fn file(&self, n: usize) -> PathBuf {
        self.folder.join(format!("clock-{n}"))
    }

    /// Returns the environment variables that a replica needs.
    ///
    /// # Errors
    /// When the clock's file cannot be written.
    pub fn environment(&self, n: usize) -> Result<Vec<(String, String)>> {
        let Some(library) = &self.library else { return Ok(Vec::new()) };
        std::fs::write(self.file(n), "+0")?;
        let pairs = [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file(n).display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        Ok(pairs.map(|(name, value)| (name.to_owned(), value)).into())
    }

    /// Moves a clock. Returns whether that was possible.
    ///
    /// # Errors
    /// When the clock's file cannot be written.
    pub fn jump(&self, n: usize, seconds: i64) -> Result<bool> {
        if self.library.is_some() {
            std::fs::write(self.file(n), format!("{seconds:+}"))?;
        }
        Ok(self.library.is_some())
    }
}
