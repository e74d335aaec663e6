//! Failures of commands: what went wrong, what to do next, and the exit code for programs.

use crate::text::{Format, clean};
use serde_json::{Value, json};
use std::io::Write;
use std::process::ExitCode;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Exit codes for `--help`; the README has the same table.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed; the message says why
  2  invalid: a flag, a field or the configuration is wrong
  3  not found
  4  rejected: the state forbids it, it changed meanwhile, it exists already, or it was not confirmed
  5  the service or its database is unavailable or busy; try again
  6  not allowed: the token is missing, has expired or lacks the role
  7  done in part: rows, numbers or facts were rejected";

/// Exit code of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Refused = 4,
    Unavailable = 5,
    NotAllowed = 6,
    InPart = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Reason why a command was not done.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    message: String,
    /// gRPC code of the service's rejection; `reason` is its `ErrorInfo.reason`.
    code: Option<Code>,
    reason: String,
    /// Invalid fields, each with its problem.
    fields: Vec<(String, String)>,
    next: Option<String>,
    pub is_broken_pipe: bool,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            code: None,
            reason: String::new(),
            fields: Vec::new(),
            next: None,
            is_broken_pipe: false,
        }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Adds what to do next.
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Adds the service's address if the service is unavailable and no next step is known.
    pub fn at(self, url: &str) -> Self {
        if self.code == Some(Code::Unavailable) && self.next.is_none() {
            return self.next(format!(
                "check that the service runs at {url}; campaignctl doctor finds the cause"
            ));
        }
        self
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    /// Writes the failure to `output`, in `format`.
    pub fn tell(&self, format: Format, output: &mut impl Write) {
        let text = match format {
            Format::Human => self.text(),
            Format::Json => format!("{}\n", self.json()),
        };
        // If this fails, there is no other place to report it.
        let _ = output.write_all(text.as_bytes());
    }

    fn text(&self) -> String {
        let mut text = format!("campaignctl: {}", clean(&self.message));
        if !self.reason.is_empty() {
            text.push_str(&format!(" ({})", clean(&self.reason)));
        }
        text.push('\n');
        if self.fields.len() > 1 {
            for (field, problem) in &self.fields {
                text.push_str(&format!("  {}: {}\n", clean(field), clean(problem)));
            }
        }
        if let Some(next) = &self.next {
            text.push_str(&format!("  next: {}\n", clean(next)));
        }
        text
    }

    fn json(&self) -> Value {
        let fields: Vec<Value> = self
            .fields
            .iter()
            .map(|(field, problem)| json!({ "field": field, "description": problem }))
            .collect();
        json!({ "error": {
            "exitCode": self.exit as u8,
            "code": self.code.map(|code| format!("{code:?}")),
            "message": self.message,
            "reason": self.reason,
            "fields": fields,
            "next": self.next,
        } })
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let reason = info.map(|info| info.reason.clone()).unwrap_or_default();
        let fields = details.bad_request().map_or_else(Vec::new, |bad| {
            let violations = bad.field_violations.iter();
            violations.map(|bad| (bad.field.clone(), bad.description.clone())).collect()
        });
        let about = |key: &str| info.and_then(|info| info.metadata.get(key)).cloned();
        let delay = details.retry_info().and_then(|retry| retry.retry_delay);
        let next = match (status.code(), reason.as_str()) {
            (Code::NotFound, _) => {
                Some("campaignctl campaigns list shows all campaigns".to_owned())
            }
            (Code::Unauthenticated, "TOKEN_MISSING") => {
                Some("give a token with --token-file, or with token_file in the profile".to_owned())
            }
            (Code::PermissionDenied, _) => {
                about("roles").map(|roles| format!("use a token with the role {roles}"))
            }
            (Code::FailedPrecondition, "STATE") => {
                about("allowed").filter(|allowed| !allowed.is_empty()).map(|allowed| {
                    format!("allowed now: {}", allowed.to_lowercase().replace(',', ", "))
                })
            }
            (Code::FailedPrecondition, "PREVIEW_OUTDATED") => {
                Some("look at a new preview, then launch again".to_owned())
            }
            (Code::ResourceExhausted | Code::Unavailable, _) => {
                delay.map(|delay| format!("try again in {} s", delay.as_secs_f32().ceil().max(1.0)))
            }
            (Code::Internal, _) => Some("the service's log has the cause".to_owned()),
            (Code::Unimplemented, _) => Some(
                "the service has another version; campaignctl doctor compares the two".to_owned(),
            ),
            _ => None,
        };
        Self {
            exit: exit_of(status.code()),
            message: said(&status),
            code: Some(status.code()),
            reason,
            fields,
            next,
            is_broken_pipe: false,
        }
    }
}

fn exit_of(code: Code) -> Exit {
    match code {
        Code::InvalidArgument | Code::OutOfRange => Exit::Usage,
        Code::NotFound => Exit::NotFound,
        Code::FailedPrecondition | Code::Aborted | Code::AlreadyExists => Exit::Refused,
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled => {
            Exit::Unavailable
        }
        Code::Unauthenticated | Code::PermissionDenied => Exit::NotAllowed,
        _ => Exit::Failed,
    }
}

/// Returns the message of a status in words.
fn said(status: &Status) -> String {
    match (status.code(), status.message()) {
        (Code::Cancelled, "Timeout expired") => "no answer in time".to_owned(),
        (code, "") => code.description().to_owned(),
        (_, message) => message.to_owned(),
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let is_broken_pipe = error.kind() == std::io::ErrorKind::BrokenPipe;
        Self { is_broken_pipe, ..Self::new(Exit::Failed, error.to_string()) }
    }
}
