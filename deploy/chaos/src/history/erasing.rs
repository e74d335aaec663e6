//! Erasing people, re-admitting them, and checking that they are gone.

use super::History;
use crate::journal::Said;
use crate::now_micros;
use campaign_proto::v1;
use rand::Rng;

/// Number of attempts to ask at the end, when nothing goes wrong any more.
const LAST_TIMES: usize = 20;

impl History {
    pub(super) async fn erase(&mut self) {
        let n = self.any_number();
        let number = self.number(n);
        let request = v1::ErasePersonRequest { phone_number: number.clone(), ..Default::default() };
        let (asked_at, times) = (now_micros(), self.patience());
        self.note(asked_at, Said::EraseAsked { number: number.clone() });
        let erased = self
            .ask(times, |mut client| {
                let request = request.clone();
                async move { client.erasing.erase_person(request).await }
            })
            .await;
        if erased.is_some() {
            let mark = self.committed_now().await;
            self.note(asked_at, Said::Erased { number, mark });
            self.erased.push(n);
        }
    }

    pub(super) async fn let_in_again(&mut self) {
        if self.erased.is_empty() {
            return;
        }
        let n = self.erased[self.random.random_range(0..self.erased.len())];
        self.erased.retain(|other| *other != n);
        let number = self.number(n);
        let request = v1::RemoveSuppressionRequest {
            name: format!("suppressions/{number}"),
            ..Default::default()
        };
        let (asked_at, times) = (now_micros(), self.patience());
        self.note(asked_at, Said::LiftAsked { number: number.clone() });
        let lifted = self
            .ask(times, |mut client| {
                let request = request.clone();
                async move { client.contacts.remove_suppression(request).await }
            })
            .await;
        if lifted.is_some() {
            self.note(asked_at, Said::Lifted { number });
        }
    }

    /// Tries to bring erased people back, and asks what the list says of each.
    pub(super) async fn look_for_erased(&mut self) -> Result<(), String> {
        let numbers: Vec<String> = self.erased.iter().map(|n| self.number(*n)).collect();
        if numbers.is_empty() {
            return Ok(());
        }
        let imported = self.import("once more", &numbers, LAST_TIMES).await;
        if imported != Some(numbers.len()) {
            return Err(format!("{}: the last import came to {imported:?}", self.campaign));
        }
        for number in numbers {
            let name = format!("suppressions/{number}");
            let asked_at = now_micros();
            let entry = self
                .ask(LAST_TIMES, |mut client| {
                    let request = v1::GetSuppressionRequest { name: name.clone() };
                    async move { client.contacts.get_suppression(request).await }
                })
                .await;
            let source = entry.map(|entry| entry.source).unwrap_or_default();
            self.note(asked_at, Said::Listed { number, source });
        }
        Ok(())
    }
}
