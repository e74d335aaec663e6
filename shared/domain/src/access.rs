//! Identity of a caller, and its permissions. A caller's campaigns are those of its tenant.

use crate::settings::LaunchSettings;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest name of a tenant.
const MAX_TENANT_LENGTH: usize = 63;

/// Role of a caller. The service's table of methods lists the methods of each role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads, edits and commands.
    Operator,
    /// Has every permission, including those that bring back people who opted out.
    Admin,
    /// Leases contacts, dials and reports.
    Worker,
    /// Reports facts from elsewhere.
    Reporter,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 5] =
        [Self::Viewer, Self::Operator, Self::Admin, Self::Worker, Self::Reporter];

    /// Returns the name used in tokens.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Worker => "worker",
            Self::Reporter => "reporter",
        }
    }

    /// Returns the role with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Owner of campaigns. The empty tenant is the installation itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tenant(String);

impl Tenant {
    /// Returns the tenant of this name: 1 to 63 small letters, digits and hyphens. No name denotes
    /// the empty tenant.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_tenant = name.len() <= MAX_TENANT_LENGTH && name.bytes().all(is_fit);
        is_tenant.then(|| Self(name.to_owned()))
    }

    /// Returns the tenant's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether the tenant is the installation itself.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the campaigns that the tenant's suppressions cover: its own. Suppressions of the
    /// installation cover all campaigns.
    #[must_use]
    pub fn suppresses(&self) -> Reach {
        if self.is_empty() { Reach::All } else { Reach::Of(self.clone()) }
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Caller of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Name in the audit log; empty if callers need not authenticate.
    pub actor: String,
    pub roles: Vec<Role>,
    pub tenant: Tenant,
}

/// Campaigns that are visible to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Campaigns of one tenant.
    Of(Tenant),
    /// Campaigns of all tenants.
    All,
}

impl Reach {
    /// Returns the name of the only tenant, or `None` for all tenants.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Self::Of(tenant) => Some(tenant.name()),
            Self::All => None,
        }
    }
}

impl Caller {
    /// Whether the caller has one of these roles.
    #[must_use]
    pub fn has_any(&self, roles: &[Role]) -> bool {
        self.roles.iter().any(|role| roles.contains(role))
    }

    /// Returns the campaigns that the caller may name.
    #[must_use]
    pub fn reach(&self) -> Reach {
        Reach::Of(self.tenant.clone())
    }

    /// Returns the campaigns that the caller may work for. A worker without a tenant serves all
    /// campaigns.
    #[must_use]
    pub fn reach_at_work(&self) -> Reach {
        if self.tenant.is_empty() && self.has_any(&[Role::Worker]) {
            Reach::All
        } else {
            self.reach()
        }
    }

    /// Whether the caller may remove a number from a suppression list. `is_wish` says that the
    /// person may have asked for the entry.
    #[must_use]
    pub fn may_unsuppress(&self, is_wish: bool) -> bool {
        !is_wish || self.has_any(&[Role::Admin])
    }

    /// Checks whether the caller may launch with these settings.
    ///
    /// # Errors
    /// Returns the first setting that is not permitted, by its name in the API.
    pub fn may_launch(&self, settings: &LaunchSettings) -> Result<(), &'static str> {
        if self.has_any(&[Role::Admin]) {
            Ok(())
        } else if settings.reset_contact_history {
            Err("settings.reset_contact_history")
        } else if !settings.exclude.refused {
            Err("settings.exclude.refused = false")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Exclusions;

    fn caller(roles: &[Role], tenant: &str) -> Caller {
        let tenant = Tenant::new(tenant).expect("right");
        Caller { actor: "ann".to_owned(), roles: roles.to_vec(), tenant }
    }

    #[test]
    fn tenants_have_plain_names() {
        for name in ["a", "acme-2", "-", &"a".repeat(63), ""] {
            assert_eq!(Tenant::new(name).expect("fits").name(), name);
        }
        for name in ["A", "a b", "a/b", "é", "a.b", "a_b", "a\0", &"a".repeat(64)] {
            assert_eq!(Tenant::new(name), None, "{name}");
        }
    }

    #[test]
    fn only_a_worker_of_no_tenant_works_for_all() {
        for role in Role::ALL {
            assert_eq!(Role::from_name(role.name()), Some(role));
            let (none, acme) = (caller(&[role], ""), caller(&[role], "acme"));
            assert_eq!(none.reach_at_work() == Reach::All, role == Role::Worker, "{role:?}");
            assert_eq!(none.reach(), Reach::Of(Tenant::default()));
            assert_eq!(acme.reach_at_work(), Reach::Of(acme.tenant.clone()));
        }
    }

    #[test]
    fn only_an_admin_brings_back_who_opted_out() {
        let refused = Exclusions { refused: false, ..Exclusions::default() };
        let back = LaunchSettings { exclude: refused, ..LaunchSettings::default() };
        let reset = LaunchSettings { reset_contact_history: true, ..LaunchSettings::default() };
        for role in Role::ALL {
            let caller = caller(&[role], "");
            assert_eq!(caller.may_launch(&LaunchSettings::default()), Ok(()));
            assert_eq!(caller.may_launch(&back).is_ok(), role == Role::Admin, "{role:?}");
            assert_eq!(caller.may_launch(&reset).is_ok(), role == Role::Admin, "{role:?}");
            assert_eq!(caller.may_unsuppress(true), role == Role::Admin, "{role:?}");
            assert!(caller.may_unsuppress(false));
        }
    }

    #[test]
    fn a_tenant_suppresses_for_its_own_campaigns_and_the_installation_for_all() {
        let acme = Tenant::new("acme").expect("right");
        assert_eq!(acme.to_string(), "acme");
        assert_eq!(acme.suppresses().tenant(), Some("acme"));
        assert_eq!(Tenant::default().suppresses().tenant(), None);
    }
}
