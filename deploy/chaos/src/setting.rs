//! Setting of a round: its seed, kind, sizes and programs.

use crate::Result;
use crate::provider::Door;
use campaign_testkit::beside;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the service's program.
pub const SERVICE: &str = "campaign-service";

/// Campaigns of a crowd, unless told otherwise.
pub const CROWD: usize = 3_000;

/// Kind of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Histories and faults alone.
    Usual,
    /// A crowd of so many campaigns beside the histories.
    Crowd(usize),
    /// One replica is frozen in the middle of its work, for longer than any lock may be held.
    Frozen,
}

impl Kind {
    /// Returns the kind of the round with a seed: one in ten has a crowd, two in ten a frozen replica.
    #[must_use]
    pub fn of(seed: u64, crowd: usize) -> Self {
        match seed % 10 {
            1 => Self::Crowd(crowd),
            4 | 8 => Self::Frozen,
            _ => Self::Usual,
        }
    }

    /// Returns the number of campaigns beside the histories.
    #[must_use]
    pub fn crowd(self) -> usize {
        if let Self::Crowd(campaigns) = self { campaigns } else { 0 }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usual => Ok(()),
            Self::Crowd(campaigns) => write!(f, ", {campaigns} campaigns beside them"),
            Self::Frozen => write!(f, ", a replica frozen"),
        }
    }
}

/// Settings of a round.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Seed of all decisions here.
    pub seed: u64,
    /// Number of histories side by side.
    pub histories: usize,
    /// Kind of the round.
    pub kind: Kind,
    /// Length of the time in which faults happen.
    pub window: Duration,
    /// Programs under test.
    pub versions: Versions,
    /// Folder of this round; removed when all went well.
    pub folder: PathBuf,
}

impl Setting {
    /// Whether one of the workers simulates its calls, whose outcomes are of all kinds. During an upgrade none does:
    /// campaigns of the version before have no short wait after an abandoned call.
    #[must_use]
    pub fn simulates(&self) -> bool {
        self.kind == Kind::Usual && self.seed.is_multiple_of(2) && self.versions.previous.is_none()
    }

    /// Returns what sets the round apart from others, as it is printed.
    #[must_use]
    pub fn apart(&self) -> String {
        match self.door() {
            Door::VoiceAgent => self.kind.to_string(),
            Door::Twilio => ", Twilio's API".to_owned(),
            Door::Sip => ", a SIP trunk".to_owned(),
        }
    }

    /// Returns the protocol of the provider: in one usual round of seven a SIP trunk's, in another one Twilio's. The
    /// version before may not know them.
    #[must_use]
    pub fn door(&self) -> Door {
        match self.seed % 10 {
            _ if self.kind != Kind::Usual || self.versions.previous.is_some() => Door::VoiceAgent,
            3 => Door::Sip,
            9 => Door::Twilio,
            _ => Door::VoiceAgent,
        }
    }
}

/// Paths of the programs of each version.
#[derive(Clone, Debug)]
pub struct Versions {
    /// Path of a program of this version.
    pub built: PathBuf,
    /// Path of a program of the previous version, if the round begins with that version. Its worker is beside its
    /// service.
    pub previous: Option<PathBuf>,
}

impl Versions {
    /// Returns a program of the version that the round begins with.
    #[must_use]
    pub fn first(&self) -> &Path {
        self.previous.as_ref().unwrap_or(&self.built)
    }

    /// Returns the service that the round begins with.
    ///
    /// # Errors
    /// When the program is not there.
    pub fn first_service(&self) -> Result<PathBuf> {
        Ok(beside(self.first(), SERVICE)?)
    }
}
