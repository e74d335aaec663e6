//! Facts from backends that hold no lease: new ones, and repeats.

use super::History;
use super::clients::Client;
use crate::journal::Said;
use crate::now_micros;
use campaign_proto::v1;
use campaign_proto::v1::InteractionStatus;
use campaign_proto::v1::interaction::Fact;
use rand::Rng;
use rand::seq::IndexedRandom;

impl History {
    pub(super) async fn report_opt_out(&mut self) {
        let fact = Fact::OptedOut(v1::OptedOut { channel: "web".to_owned(), ..Default::default() });
        let n = self.any_number();
        let id = self.id("stop");
        self.report(n, id, fact).await;
    }

    pub(super) async fn report_fact(&mut self) {
        let seconds_before_transfer = self.random.random_range(20..150);
        let fact = match self.random.random_range(0..4) {
            0 => Fact::Transferred(v1::Transferred { seconds_before_transfer }),
            1 => Fact::Success(v1::Success {}),
            2 => Fact::LinkOpened(v1::LinkOpened { link: "https://example.com".to_owned() }),
            _ => Fact::TextSent(v1::TextSent {}),
        };
        let n = self.any_number();
        let id = self.id("fact");
        self.report(n, id, fact).await;
    }

    /// Reports an earlier fact again, under the same id.
    pub(super) async fn report_again(&mut self) {
        let before = self.reported.choose(&mut self.random).cloned();
        if let Some((n, id, fact)) = before {
            self.report(n, id, fact).await;
        }
    }

    async fn report(&mut self, n: usize, interaction_id: String, fact: Fact) {
        self.reported.push((n, interaction_id.clone(), fact.clone()));
        let number = self.number(n);
        let interaction = v1::Interaction {
            interaction_id: interaction_id.clone(),
            fact: Some(fact.clone()),
            ..Default::default()
        };
        let reported = v1::ReportedInteraction {
            interaction: Some(interaction),
            phone_number: number.clone(),
        };
        let request = v1::RecordInteractionsRequest {
            parent: self.campaign.clone(),
            interactions: vec![reported],
        };
        let (asked_at, times) = (now_micros(), self.patience());
        let is_double = self.random.random_bool(0.2);
        let others = self.stage.clients.clone();
        let recorded = self
            .ask(times, |mut client| {
                let (request, others) = (request.clone(), others.clone());
                async move {
                    let others = if is_double { others } else { Vec::new() };
                    everywhere(&others, &request);
                    client.interactions.record_interactions(request).await
                }
            })
            .await;
        let Some(result) = recorded.and_then(|answer| answer.results.into_iter().next()) else {
            return;
        };
        if result.status() != InteractionStatus::Rejected {
            let status = result.status().as_str_name().to_owned();
            self.note(asked_at, Said::Fact { number, interaction_id, kind: kind(&fact), status });
        }
    }
}

/// Sends the same report to other replicas at the same time.
fn everywhere(others: &[Client], request: &v1::RecordInteractionsRequest) {
    for other in others {
        let (mut other, request) = (other.clone(), request.clone());
        // This answer is ignored: the answer that counts is the first replica's.
        tokio::spawn(async move { other.interactions.record_interactions(request).await });
    }
}

/// Returns the kind of a fact as stored.
fn kind(fact: &Fact) -> i16 {
    match fact {
        Fact::CallEnded(_) => 0,
        Fact::Transferred(_) => 1,
        Fact::OptedOut(_) => 2,
        Fact::Success(_) => 3,
        Fact::LinkOpened(_) => 4,
        Fact::TextSent(_) => 5,
        Fact::CalledIn(_) => 6,
    }
}
