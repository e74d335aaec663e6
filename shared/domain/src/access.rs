//! Who a caller is, and what that lets it do. A caller's campaigns are those of its tenant.

use crate::settings::LaunchSettings;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest name of a tenant.
const MAX_TENANT_LENGTH: usize = 63;

/// What a caller is trusted with. Which methods that is stands in the service's table of methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Looks.
    Viewer,
    /// Looks, edits and commands.
    Operator,
    /// Everything, also what brings back people who opted out.
    Admin,
    /// Takes contacts, dials and reports.
    Worker,
    /// Reports what happened elsewhere.
    Reporter,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Viewer, Self::Operator, Self::Admin, Self::Worker, Self::Reporter];

    /// As tokens name it.
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

    /// The role of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Whose campaigns. The empty one is the installation's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tenant(String);

impl Tenant {
    /// The tenant of this name: 1 to 63 small letters, digits and hyphens; nothing names the empty one.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_tenant = name.len() <= MAX_TENANT_LENGTH && name.bytes().all(is_fit);
        is_tenant.then(|| Self(name.to_owned()))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether it is the installation's own.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The campaigns that its suppressions hold for: its own; those of the installation for everybody.
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

/// Who calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// For the audit log; empty where nobody has to say who he is.
    pub actor: String,
    pub roles: Vec<Role>,
    pub tenant: Tenant,
}

/// Whose campaigns there are for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Of one tenant.
    Of(Tenant),
    /// Of all.
    All,
}

impl Reach {
    /// Its only tenant, by name; `None`: all are.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Self::Of(tenant) => Some(tenant.name()),
            Self::All => None,
        }
    }
}

impl Caller {
    /// Whether it has one of these roles.
    #[must_use]
    pub fn has_any(&self, roles: &[Role]) -> bool {
        self.roles.iter().any(|role| roles.contains(role))
    }

    /// Whose campaigns it may name.
    #[must_use]
    pub fn reach(&self) -> Reach {
        Reach::Of(self.tenant.clone())
    }

    /// Whose campaigns it may work for: a worker of no tenant serves all of them.
    #[must_use]
    pub fn reach_at_work(&self) -> Reach {
        if self.tenant.is_empty() && self.has_any(&[Role::Worker]) {
            Reach::All
        } else {
            self.reach()
        }
    }

    /// Whether it may take a number off a suppression list, which the person may have asked for.
    #[must_use]
    pub fn may_unsuppress(&self, is_wish: bool) -> bool {
        !is_wish || self.has_any(&[Role::Admin])
    }

    /// Whether it may launch with these settings; if not, the setting that it may not.
    ///
    /// # Errors
    /// The setting, as the API names it.
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
}
