//! Files that may change while the service runs: keys and certificates. The service uses the last valid
//! content. Invalid content is reported and changes nothing.

use campaign_process::read_key_file;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

type Contents = Vec<Vec<u8>>;
type Reader<T> = dyn Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync;

/// Value read from some files, and read again when the files change.
pub struct Reloading<T> {
    what: &'static str,
    files: Vec<PathBuf>,
    read: Box<Reader<T>>,
    current: RwLock<Arc<T>>,
    /// Last content, valid or not, so that each change is reported once.
    seen: Mutex<Result<Contents, String>>,
}

impl<T> fmt::Debug for Reloading<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading").field("files", &self.files).finish_non_exhaustive()
    }
}

impl<T> Reloading<T> {
    /// Reads files. `read` makes the value from the contents of the files, in order.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or is invalid. The error names the file and its fault.
    pub fn open(
        what: &'static str,
        files: Vec<PathBuf>,
        read: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let contents = contents(&files)?;
        let first = read(&contents).map_err(|error| describe(what, &files, &error))?;
        let (current, seen) = (RwLock::new(Arc::new(first)), Mutex::new(Ok(contents)));
        Ok(Self { what, files, read: Box::new(read), current, seen })
    }

    /// Returns the value in use.
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Checks the files at each `interval` until `stop`.
    pub async fn run(&self, interval: Duration, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(interval) => self.look(),
            }
        }
    }

    /// Uses the new content of changed files.
    fn look(&self) {
        let new = contents(&self.files);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == new {
            return;
        }
        let made = new.as_ref().map_err(String::clone).and_then(|contents| {
            (self.read)(contents).map_err(|error| describe(self.what, &self.files, &error))
        });
        match made {
            Ok(made) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(made);
                info!(files = ?self.files, "{} changed; the new content is in use", self.what);
            }
            Err(error) => error!("{error}; the previous content stays in use"),
        }
        *seen = new;
    }
}

fn describe(what: &str, files: &[PathBuf], error: &str) -> String {
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    format!("{what} cannot be used ({}): {error}", names.join(", "))
}

fn contents(files: &[PathBuf]) -> Result<Contents, String> {
    let read = |file: &PathBuf| {
        read_key_file(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))
    };
    files.iter().map(read).collect()
}
