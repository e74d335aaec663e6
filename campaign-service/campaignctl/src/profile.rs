//! Address of the service and credentials. Flags override the environment, which overrides the profile.

use crate::args::Global;
use crate::failure::Failure;
use campaign_process::read_key_file;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEFAULT_URL: &str = "http://127.0.0.1:50051";
const DEFAULT_TIMEOUT_SECONDS: u64 = 60;

/// Content of the profiles file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    default_profile: Option<String>,
    #[serde(default)]
    profiles: BTreeMap<String, Profile>,
}

/// One installation of the service. Paths are relative to the profiles file's folder.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    service_url: Option<String>,
    ca_file: Option<PathBuf>,
    client_cert_file: Option<PathBuf>,
    client_key_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
    actor: Option<String>,
    timeout_seconds: Option<u64>,
}

/// Settings that result from flags, environment and profile.
#[derive(Clone, Debug)]
pub struct Setup {
    pub url: String,
    pub ca_file: Option<PathBuf>,
    /// Client certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
    pub token_file: Option<PathBuf>,
    pub actor: String,
    pub timeout: Duration,
    /// File and profile that the settings came from, for people.
    pub origin: String,
}

impl Setup {
    /// Reads the profile and applies flags and environment.
    pub fn read(global: &Global) -> Result<Self, Failure> {
        let (file, path) = profiles(global.config.as_deref())?;
        let wanted = global.profile.clone().or(file.default_profile);
        let (profile, origin) = match &wanted {
            None if path.is_none() => (Profile::default(), "no profiles file".to_owned()),
            None => (Profile::default(), "no profile chosen".to_owned()),
            Some(name) => {
                let known: Vec<&str> = file.profiles.keys().map(String::as_str).collect();
                let place = path.as_deref().unwrap_or(Path::new("the configuration"));
                let profile = file.profiles.get(name).cloned().ok_or_else(|| {
                    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                    let place = place.display();
                    Failure::usage(format!("{place} has no profile {name:?}; it has: {known}"))
                })?;
                (profile, format!("profile {name} of {}", place.display()))
            }
        };
        let folder = path.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let inside = |file: Option<PathBuf>| file.map(|file| folder.join(file));
        let timeout = global.timeout_seconds.or(profile.timeout_seconds);
        let cert = global.client_cert_file.clone().or(inside(profile.client_cert_file));
        let key = global.client_key_file.clone().or(inside(profile.client_key_file));
        if cert.is_some() != key.is_some() {
            let message =
                "client_cert_file and client_key_file belong together; add the one that is missing";
            return Err(Failure::usage(message));
        }
        if profile.timeout_seconds.is_some_and(|seconds| !(1..=3_600).contains(&seconds)) {
            return Err(Failure::usage(format!("{origin}: timeout_seconds must be 1 to 3600")));
        }
        let user = || std::env::var("USER").ok();
        Ok(Self {
            url: global
                .service_url
                .clone()
                .or(profile.service_url)
                .unwrap_or_else(|| DEFAULT_URL.to_owned()),
            ca_file: global.ca_file.clone().or(inside(profile.ca_file)),
            identity: cert.zip(key),
            token_file: global.token_file.clone().or(inside(profile.token_file)),
            actor: global.actor.clone().or(profile.actor).or_else(user).unwrap_or_default(),
            timeout: Duration::from_secs(timeout.unwrap_or(DEFAULT_TIMEOUT_SECONDS)),
            origin,
        })
    }
}

/// Returns the profiles file and its path. Only a file that was named has to exist.
fn profiles(named: Option<&Path>) -> Result<(File, Option<PathBuf>), Failure> {
    let Some(path) = named.map(Path::to_owned).or_else(default_path) else {
        return Ok((File::default(), None));
    };
    if named.is_none() && !path.exists() {
        return Ok((File::default(), None));
    }
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::usage(format!("{} cannot be read: {error}", path.display()))
    };
    let bytes = read_key_file(&path).map_err(|error| wrong(&error))?;
    let text = String::from_utf8(bytes).map_err(|error| wrong(&error))?;
    let file = toml::from_str(&text).map_err(|error| wrong(&error.to_string().trim_end()))?;
    Ok((file, Some(path)))
}

fn default_path() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    Some(folder?.join("campaignctl").join("config.toml"))
}
