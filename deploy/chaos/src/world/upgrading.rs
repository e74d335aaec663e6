//! Upgrade from the previous version to this one.

use super::{REPLICAS, WORKER, WORKERS, Who, World};
use crate::Result;
use crate::postgres;
use crate::setting::SERVICE;
use crate::supervised::Supervised;
use campaign_testkit::{beside, migrate};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Longest wait for a migration, whatever goes wrong meanwhile, and for one try.
const MIGRATION_LIMIT: Duration = Duration::from_secs(60);
const MIGRATION_TRY_LIMIT: Duration = Duration::from_secs(10);
/// Time between two programs of an upgrade, and between two tries to migrate.
const UPGRADE_STEP: Duration = Duration::from_millis(300);
/// Time that both versions work on the new schema.
const SIDE_BY_SIDE: Duration = Duration::from_secs(2);

impl World {
    /// Upgrades from the previous version, as operators do. This version migrates while the other works, and then takes
    /// its place, program by program. Its first replica is there too early, and waits.
    ///
    /// # Errors
    /// When the upgrade comes to no end.
    pub async fn upgrade(&self) -> Result<()> {
        let first = Who::Replica(0);
        {
            let mut program = self.program(first).lock().await;
            self.replace(&mut program, SERVICE).await?;
        }
        self.migrate().await?;
        self.program(first).lock().await.until_up().await?;
        sleep(SIDE_BY_SIDE).await;
        let replicas = (1..REPLICAS).map(|n| (Who::Replica(n), SERVICE));
        let workers = (0..WORKERS).map(|n| (Who::Worker(n), WORKER));
        for (who, name) in replicas.chain(workers) {
            sleep(UPGRADE_STEP).await;
            let mut program = self.program(who).lock().await;
            self.replace(&mut program, name).await?;
            program.until_up().await?;
        }
        Ok(())
    }

    /// Stops a program, and starts that of this version.
    async fn replace(&self, program: &mut Supervised, name: &str) -> Result<()> {
        program.stop().await?;
        program.replace(&beside(&self.built, name)?);
        program.start()
    }

    /// Brings the schema to this version, trying again while something is in the way.
    async fn migrate(&self) -> Result<()> {
        let (service, url) = (beside(&self.built, SERVICE)?, postgres::url(self.database_port));
        let deadline = Instant::now() + MIGRATION_LIMIT;
        loop {
            match timeout(MIGRATION_TRY_LIMIT, migrate(&service, &url)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) if Instant::now() > deadline => return Err(error.into()),
                Err(_) if Instant::now() > deadline => {
                    return Err("the migration does not end".into());
                }
                _ => sleep(UPGRADE_STEP).await,
            }
        }
    }
}
