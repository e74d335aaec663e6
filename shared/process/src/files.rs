use std::fs::File;
use std::io::{Error, Read, Result};
use std::path::Path;

/// Largest file of a key, certificate or token.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Reads a file of a key, certificate or token, up to `MAX_FILE_BYTES` bytes.
///
/// # Errors
/// Returns an error if the file cannot be read, or is larger.
pub fn read_key_file(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::other(format!("it has more than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}
