//! Knowledge of who was erased.

use crate::app::error::{Error, Result};
use crate::eraser::{Eraser, KeyId, PersonHash};
use crate::store::audit::{self, Entry};
use crate::store::erasures::{self, Noted};
use crate::store::suppressions::Suppression;
use crate::store::{Db, Gate, Tx};
use campaign_domain::access::Tenant;
use campaign_domain::campaign::Campaign;
use campaign_domain::subscriber::spellings;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Name of an entry in errors. An entry's own name is a phone number, and errors end in logs.
pub(super) const ENTRY: &str = "the suppression";
/// Source of suppressions that stand for an erasure.
pub(super) const SOURCE: &str = "erased";

/// Erased people, who are recognised by the hashes of their numbers.
#[derive(Clone, Debug)]
pub struct Erased {
    eraser: Option<Arc<Eraser>>,
}

impl Erased {
    /// Creates the knowledge with the keys of the hashes; without keys nobody can be erased.
    #[must_use]
    pub fn new(eraser: Option<Eraser>) -> Self {
        Self { eraser: eraser.map(Arc::new) }
    }

    /// Returns the keys; `None` if nobody can be erased.
    pub(super) fn eraser(&self) -> Option<&Eraser> {
        self.eraser.as_deref()
    }

    /// Checks whether the service may run with these keys. With other keys or none, erased people
    /// would come back.
    pub async fn check(&self, db: &Db) -> Result<()> {
        let mut connection = db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        self.known(&erasures::key_ids(&tx).await?)?;
        Ok(())
    }

    /// Returns the eraser if it has all `pinned` keys, and so knows everybody who was erased. Returns
    /// `None` if nobody was ever erased.
    pub(super) fn known(&self, pinned: &[KeyId]) -> Result<Option<&Eraser>> {
        if pinned.is_empty() {
            return Ok(None);
        }
        let knows_all = |eraser: &&Eraser| pinned.iter().all(|key_id| eraser.has_key(key_id));
        let Some(eraser) = self.eraser().filter(knows_all) else {
            return Err(Error::Precondition {
                reason: "ERASURE_KEY_WRONG",
                subject: "--erasure-key-file".to_owned(),
                description:
                    "people were erased under another key, and would not be recognised: start the \
                              service with --erasure-key-file and every key that was ever used, the \
                              current one first"
                        .to_owned(),
            });
        };
        Ok(Some(eraser))
    }

    /// Returns which of these numbers, in E.164, a tenant's campaigns may not know. `keys` must be
    /// read in this transaction. A caller that adds contacts asks while their positions are locked.
    pub(super) async fn among<'p>(
        &self,
        tx: &Tx<'_>,
        keys: &[KeyId],
        tenant: &Tenant,
        phones: &[&'p str],
    ) -> Result<HashSet<&'p str>> {
        let Some(eraser) = self.known(keys)? else {
            return Ok(HashSet::new());
        };
        // A number counts as erased if any of its spellings was.
        let mut hashed: HashMap<PersonHash, Vec<&str>> = HashMap::new();
        for phone in phones {
            for hash in spellings(phone).iter().flat_map(|spelling| eraser.hashes(spelling)) {
                hashed.entry(hash).or_default().push(phone);
            }
        }
        let hashes: Vec<_> = hashed.keys().copied().collect();
        let found = erasures::find(tx, tenant, &hashes).await?;
        Ok(found.iter().filter_map(|hash| hashed.get(hash)).flatten().copied().collect())
    }

    /// Records hashes of numbers that were erased for everybody or for a tenant, so that the tenant
    /// does not know them. Returns the other numbers.
    pub(super) async fn hold(
        &self,
        tx: &Tx<'_>,
        tenant: &Tenant,
        phones: &[String],
        source: &str,
    ) -> Result<Vec<String>> {
        let texts: Vec<&str> = phones.iter().map(String::as_str).collect();
        let erased = self.among(tx, &erasures::key_ids(tx).await?, tenant, &texts).await?;
        if let (Some(eraser), false) = (self.eraser(), erased.is_empty()) {
            let hashes: Vec<_> = erased.iter().map(|phone| eraser.hash(phone)).collect();
            erasures::hold(tx, tenant, &hashes, source).await?;
        }
        Ok(phones.iter().filter(|phone| !erased.contains(phone.as_str())).cloned().collect())
    }

    /// Returns a tenant's erasure of a number, as an entry of its list.
    pub(super) async fn entry(
        &self,
        tx: &Tx<'_>,
        tenant: &Tenant,
        phone: &str,
    ) -> Result<Option<Suppression>> {
        let noted = self.lock(tx, tenant, phone).await?;
        Ok(noted.map(|(_, noted)| as_entry(phone, &noted)))
    }

    /// Re-admits an erased number for a tenant, and returns its former erasure as an entry. The
    /// caller must have taken the number off the list in the same transaction. If this fails, the
    /// caller must not commit.
    pub(super) async fn lift(
        &self,
        tx: &Tx<'_>,
        tenant: &Tenant,
        phone: &str,
    ) -> Result<Option<Suppression>> {
        let Some((hashes, noted)) = self.lock(tx, tenant, phone).await? else {
            return Ok(None);
        };
        refuse_under_way(&noted)?;
        erasures::delete(tx, tenant, &hashes).await?;
        Ok(Some(as_entry(phone, &noted)))
    }

    /// Locks a tenant's erasure of a number until commit, and returns it with the hashes of the
    /// number.
    pub(super) async fn lock(
        &self,
        tx: &Tx<'_>,
        tenant: &Tenant,
        phone: &str,
    ) -> Result<Option<(Vec<PersonHash>, Noted)>> {
        let keys = erasures::key_ids(tx).await?;
        let Some(eraser) = self.known(&keys)? else { return Ok(None) };
        let spellings = spellings(phone);
        let hashes: Vec<_> =
            spellings.iter().flat_map(|spelling| eraser.hashes(spelling)).collect();
        Ok(erasures::lock(tx, tenant, &hashes).await?.map(|noted| (hashes, noted)))
    }
}

/// Rejects a change of an erasure that is not finished.
pub(super) fn refuse_under_way(noted: &Noted) -> Result<()> {
    if !noted.is_under_way {
        return Ok(());
    }
    Err(Error::Precondition {
        reason: "ERASURE_UNDER_WAY",
        subject: ENTRY.to_owned(),
        description: "the person is being erased; try again in a minute".to_owned(),
    })
}

fn as_entry(phone: &str, noted: &Noted) -> Suppression {
    let (phone, source) = (phone.to_owned(), SOURCE.to_owned());
    Suppression { phone, source, created_at: noted.erased_at, is_wish: true }
}

/// Writes an audit entry about a person. The log keeps a hash of the person, which says nothing
/// without the key.
pub(super) async fn log(
    tx: &Tx<'_>,
    campaign: &Campaign,
    command: &str,
    person: &str,
    (actor, reason): (&str, &str),
) -> Result<()> {
    let entry = Entry {
        campaign: campaign.id,
        actor,
        reason,
        command,
        before: Some(campaign.state),
        after: Some(campaign.state),
        run: campaign.run,
        request_id: "",
        details: json!({ "person": person }),
    };
    audit::insert(tx, &entry).await?;
    Ok(())
}
