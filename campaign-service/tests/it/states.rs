//! Blocks of states, changed by several transactions.

use crate::support::TestDb;
use campaign_domain::history::ContactState;
use campaign_service::store::states;
use campaign_service::store::{Db, Gate, StoreError};
use uuid::Uuid;

fn attempts(attempts: i32) -> ContactState {
    ContactState { attempts, ..ContactState::default() }
}

/// Notes attempts of contacts that no other transaction holds.
async fn note(db: &Db, campaign: Uuid, positions: std::ops::Range<i64>, count: i32) {
    let mut connection = db.connect().await.unwrap();
    let tx = connection.begin(Gate::Shared(campaign)).await.unwrap();
    let mut states = states::lock(&tx, campaign, positions.clone()).await.unwrap();
    for position in positions {
        states.set(position, &attempts(count));
    }
    states::save(&tx, campaign, &states).await.unwrap();
    tx.commit().await.unwrap();
}

async fn all(db: &Db, campaign: Uuid) -> Vec<(i64, i32)> {
    let mut connection = db.connect().await.unwrap();
    let tx = connection.begin(Gate::Open).await.unwrap();
    let states = states::in_range(&tx, campaign, 0..128).await.unwrap();
    states.iter().map(|(position, state)| (position, state.attempts)).collect()
}

/// Whole blocks, and edges that blocks share with others, are created, changed, and changed from both sides at once.
#[tokio::test]
async fn contacts_of_one_block_are_changed_side_by_side() {
    let test = TestDb::new().await;
    let (db, campaign) = (test.db(), Uuid::new_v4());
    for round in 1..=3 {
        tokio::join!(
            note(&db, campaign, 5..70, round),
            note(&db, campaign, 70..80, round),
            note(&db, campaign, 80..128, round),
        );
        let expected: Vec<(i64, i32)> = (5..128).map(|position| (position, round)).collect();
        assert_eq!(all(&db, campaign).await, expected);
    }
}

/// The change of another transaction is not overwritten, and the change of this one is not lost unnoticed.
#[tokio::test]
async fn a_block_changed_meanwhile_fails_the_transaction() {
    let test = TestDb::new().await;
    let (db, campaign) = (test.db(), Uuid::new_v4());
    note(&db, campaign, 0..32, 1).await;
    let mut connection = db.connect().await.unwrap();
    let tx = connection.begin(Gate::Shared(campaign)).await.unwrap();
    // The block is whole, so nothing locks it: its caller should hold all its contacts.
    let mut states = states::lock(&tx, campaign, 0..32).await.unwrap();
    note(&db, campaign, 0..32, 2).await;
    states.set(7, &attempts(3));
    let error = states::save(&tx, campaign, &states).await.unwrap_err();
    assert!(matches!(error, StoreError::Meddled), "{error}");
    drop(tx);
    assert_eq!(all(&db, campaign).await[7], (7, 2));
}
