//! Result of one check.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    Warn,
    Fail,
    /// Check that was not possible; the message says why.
    Skip,
}

/// Result of one check.
pub(super) struct Finding {
    pub check: &'static str,
    pub verdict: Verdict,
    pub message: String,
    pub next: &'static str,
}

pub(super) fn found(
    check: &'static str,
    verdict: Verdict,
    message: impl Into<String>,
    next: &'static str,
) -> Finding {
    Finding { check, verdict, message: message.into(), next }
}
