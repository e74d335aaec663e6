//! Result of what the demo does.

/// Result with an error in plain words.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
