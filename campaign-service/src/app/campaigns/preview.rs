//! Preview of a launch.

use super::Campaigns;
use crate::app::error::Result;
use crate::app::existing;
use crate::store::campaigns::{self, Counters};
use crate::store::counts::{Class, View};
use crate::store::{Tx, audit, kept, suppressions, to_json};
use campaign_domain::access::Tenant;
use campaign_domain::audit::Head;
use campaign_domain::campaign::Campaign;
use campaign_domain::eligibility::{Reason, Verdict};
use campaign_domain::facts::Flags;
use campaign_domain::lifecycle::{Command, Refusal, RefusalCause};
use campaign_domain::settings::LaunchSettings;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Answer to a preview.
#[derive(Clone, Debug)]
pub struct Preview {
    pub total: i64,
    pub eligible: i64,
    pub removed: BTreeMap<Reason, i64>,
    pub refusals_wiped: i64,
    pub warnings: Vec<String>,
    pub token: String,
}

impl Campaigns {
    /// Counts the contacts that would be engaged if the campaign were launched now.
    pub async fn preview(&self, id: Uuid, settings: &LaunchSettings) -> Result<Preview> {
        let mut connection = self.db.for_looking().connect().await?;
        let tx = connection.begin_snapshot().await?;
        let campaign = existing(&tx, id).await?;
        let counters = campaigns::counters(&tx, id).await?;
        let revision = campaigns::facts_revision(&tx, id).await?;
        let lists = ListHeads::read(&tx, &campaign.tenant).await?;
        let rules = campaign.rules_of_next_run(*settings);
        let view = View { epoch: rules.epoch, run: rules.run, position_limit: None };
        let classes = kept::read(&tx, id, view).await?.classes;
        let mut preview = Preview {
            total: 0,
            eligible: 0,
            removed: BTreeMap::new(),
            refusals_wiped: 0,
            warnings: Vec::new(),
            token: lists.token(&fingerprint(&campaign, &counters, revision, settings)?),
        };
        for class in &classes {
            preview.total += class.contacts;
            match rules.judge(&class.candidate, tx.now) {
                Verdict::Eligible | Verdict::NotBefore(_) => preview.eligible += class.contacts,
                Verdict::Removed(reason) => {
                    *preview.removed.entry(reason).or_default() += class.contacts;
                }
            }
        }
        if settings.reset_contact_history {
            let before = View { epoch: campaign.epoch, ..view };
            preview.refusals_wiped = kept::read(&tx, id, before).await?.totals.refused;
        }
        preview.warnings = warnings(&campaign, settings, &preview, &classes);
        if campaign.plan(settings.live_forever).has_ended(tx.now) {
            let (state, command) = (campaign.state, Command::Launch);
            let refusal = Refusal { state, command, cause: RefusalCause::Ended };
            preview.warnings.push(format!("{refusal}."));
        }
        Ok(preview)
    }
}

fn warnings(
    campaign: &Campaign,
    settings: &LaunchSettings,
    preview: &Preview,
    classes: &[Class],
) -> Vec<String> {
    let mut warnings = Vec::new();
    let overridden = settings.exclude.names_besides_refused();
    if settings.rerun_all_contacts && !overridden.is_empty() {
        warnings.push(format!(
            "rerun_all_contacts overrides these exclusions for what happened before the launch: {}.",
            overridden.join(", ")
        ));
    }
    if settings.rerun_all_contacts && !settings.exclude.refused {
        warnings.push(
            "Contacts that opted out stay excluded, because rerun_all_contacts is set.".to_owned(),
        );
    } else if !settings.exclude.refused {
        let brought_back: i64 = classes
            .iter()
            .filter(|class| class.candidate.state.flags.intersects(Flags::REFUSED))
            .map(|class| class.contacts)
            .sum();
        warnings.push(format!(
            "exclude.refused is false: {brought_back} contacts that opted out may be engaged."
        ));
    }
    if settings.reset_contact_history {
        warnings.push(format!(
            "All history is cleared for good, {} opt-outs with it.",
            preview.refusals_wiped
        ));
    }
    if let Some(field) = campaign.config.missing_for_launch().first() {
        warnings.push(format!("{field} must be set before the launch."));
    }
    if campaign.state.is_active() {
        warnings.push(format!(
            "The campaign is {}; cancel it before a new launch.",
            campaign.state.name()
        ));
    }
    if preview.eligible == 0 {
        warnings.push("Nobody would be engaged.".to_owned());
    }
    warnings
}

/// Returns whether everything that a preview's counts depended on is unchanged since the preview
/// gave `token`. Except: the passing of time, and facts of calls in progress. A launch needs the
/// run of such calls to end first, and that end is a change.
pub(super) async fn is_current(
    tx: &Tx<'_>,
    campaign: &Campaign,
    counters: &Counters,
    settings: &LaunchSettings,
    token: &str,
) -> Result<bool> {
    let revision = campaigns::facts_revision(tx, campaign.id).await?;
    let Some((seen, lists)) = ListHeads::of_token(token) else { return Ok(false) };
    if seen != fingerprint(campaign, counters, revision, settings)? {
        return Ok(false);
    }
    let mut is_changed =
        suppressions::changed_for(tx, &Tenant::default(), lists.installation, campaign.id).await?;
    if !campaign.tenant.is_empty() {
        let (tenant, event) = (&campaign.tenant, lists.tenant);
        is_changed |= suppressions::changed_for(tx, tenant, event, campaign.id).await?;
    }
    Ok(!is_changed)
}

/// Returns a fingerprint of the campaign, its contacts, their states, and the settings.
fn fingerprint(
    campaign: &Campaign,
    counters: &Counters,
    revision: i64,
    settings: &LaunchSettings,
) -> Result<String> {
    let settings = to_json(settings)?;
    let text = format!("{} {} {revision} {settings}", campaign.revision, counters.next_position);
    Ok(Uuid::new_v5(&campaign.id, text.as_bytes()).simple().to_string())
}

/// Last events in the logs of the suppression lists that hold for a campaign.
struct ListHeads {
    installation: i64,
    tenant: i64,
}

impl ListHeads {
    async fn read(tx: &Tx<'_>, tenant: &Tenant) -> Result<Self> {
        let (everybodys, own) = (audit::list_log(&Tenant::default()), audit::list_log(tenant));
        let number = |head: Option<Head>| head.map_or(0, |head| head.number);
        Ok(Self {
            installation: number(audit::head(tx, everybodys).await?),
            tenant: number(audit::head(tx, own).await?),
        })
    }

    fn token(&self, fingerprint: &str) -> String {
        format!("{fingerprint}.{}.{}", self.installation, self.tenant)
    }

    fn of_token(token: &str) -> Option<(&str, Self)> {
        let (fingerprint, heads) = token.split_once('.')?;
        let (installation, tenant) = heads.split_once('.')?;
        let heads = Self { installation: installation.parse().ok()?, tenant: tenant.parse().ok()? };
        Some((fingerprint, heads))
    }
}
