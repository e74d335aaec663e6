//! What went wrong, what to do next, and the exit code that says it to programs.

use crate::printing::{Format, clean};
use serde_json::{Value, json};
use std::io::Write;
use std::process::ExitCode;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// For `--help`; the README has the same table.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed; the message says how
  2  not understood: a flag, a field or the configuration is wrong
  3  not found
  4  refused: the state forbids it, it changed meanwhile, exists already, or was not confirmed
  5  the service or its database is away or busy; try again
  6  not allowed: the token is missing, expired or has not the role
  7  done in part: rows, numbers or facts were rejected";

/// How the program ends.
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

/// Why a command was not done.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    message: String,
    /// gRPC code and `ErrorInfo.reason`, of what the service refused.
    code: Option<Code>,
    reason: String,
    /// Fields that are wrong, and how.
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

    /// With what to do about it.
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// With the address, where it matters.
    pub fn at(self, url: &str) -> Self {
        if self.code == Some(Code::Unavailable) && self.next.is_none() {
            return self
                .next(format!("is the service up at {url}? campaignctl doctor looks closer"));
        }
        self
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    /// Says it on standard error.
    pub fn tell(&self, format: Format, output: &mut impl Write) {
        let text = match format {
            Format::Human => self.text(),
            Format::Json => format!("{}\n", self.json()),
        };
        // There is nobody left to tell when this fails.
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
                Some("campaignctl campaigns list shows what there is".to_owned())
            }
            (Code::Unauthenticated, "TOKEN_MISSING") => {
                Some("give one with --token-file, or token_file in the profile".to_owned())
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
            (Code::Internal, _) => Some("the service's log says more".to_owned()),
            (Code::Unimplemented, _) => {
                Some("the service is of another version; campaignctl doctor compares".to_owned())
            }
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

/// What a status says, in words.
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
