//! Answers about contacts and their history.

use super::{Show, exclusion, more, time, words};
use crate::text::{counted, grouped, sheet, table};
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact;

impl Show for v1::Import {
    const NAME: &'static str = "Import";

    fn human(&self) -> String {
        format!(
            "{}: {} created, {}, {} rejected\n",
            counted(self.next_row - 1, "row", "rows"),
            grouped(self.created),
            counted(self.duplicates, "duplicate", "duplicates"),
            grouped(self.rejected)
        )
    }
}

impl Show for v1::Contact {
    const NAME: &'static str = "Contact";

    fn human(&self) -> String {
        sheet([
            ("name", self.name.clone()),
            ("phone number", self.phone_number.clone()),
            ("display name", self.display_name.clone()),
            ("time zone", self.time_zone.clone()),
            ("priority", self.priority.to_string()),
            ("attributes", attributes(self)),
            ("created", time(self.create_time.as_ref())),
        ])
    }
}

fn attributes(contact: &v1::Contact) -> String {
    let mut pairs: Vec<String> =
        contact.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.sort();
    pairs.join(", ")
}

impl Show for v1::ListContactsResponse {
    const NAME: &'static str = "ListContactsResponse";

    fn human(&self) -> String {
        let rows = self.contacts.iter().map(|one| {
            let number = one.name.rsplit('/').next().unwrap_or_default().to_owned();
            let (zone, priority) = (one.time_zone.clone(), one.priority.to_string());
            [
                number,
                one.phone_number.clone(),
                one.display_name.clone(),
                zone,
                priority,
                attributes(one),
            ]
        });
        let header = ["CONTACT", "PHONE NUMBER", "NAME", "TIME ZONE", "PRIORITY", "ATTRIBUTES"];
        table(header, rows) + &more(&self.next_page_token)
    }
}

impl Show for v1::ContactHistory {
    const NAME: &'static str = "ContactHistory";

    fn human(&self) -> String {
        let transferred = format!("transferred after {} s", self.longest_transfer_seconds);
        let known = [
            (self.refused, "opted out"),
            (self.transferred, transferred.as_str()),
            (self.success, "success"),
            (self.link_opened, "link opened"),
            (self.texted, "texted"),
        ];
        let known: Vec<&str> = known.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
        let head = sheet([
            ("attempts", self.attempts.to_string()),
            ("last outcome", words(self.last_outcome().as_str_name(), "CALL_OUTCOME_")),
            ("known", known.join(", ")),
        ]);
        if self.interactions.is_empty() {
            return head;
        }
        let rows = self.interactions.iter().map(|one| {
            [
                time(one.record_time.as_ref()),
                fact(one),
                one.interaction_id.clone(),
                one.attempt_id.clone(),
            ]
        });
        head + &table(["RECORDED", "FACT", "ID", "ATTEMPT"], rows) + &more(&self.next_page_token)
    }
}

fn fact(interaction: &v1::Interaction) -> String {
    let seconds = |duration: Option<prost_types::Duration>| {
        duration.map(|duration| format!(", {} s", duration.seconds)).unwrap_or_default()
    };
    match &interaction.fact {
        Some(Fact::CallEnded(ended)) => {
            let outcome = words(ended.outcome().as_str_name(), "CALL_OUTCOME_");
            let detail = ended.detail.as_ref().map(detail).unwrap_or_default();
            let provisional = if ended.provisional { ", may still change" } else { "" };
            format!("call ended: {outcome}{}{provisional}{detail}", seconds(ended.duration))
        }
        Some(Fact::Transferred(transferred)) => {
            format!("transferred after {} s", transferred.seconds_before_transfer)
        }
        Some(Fact::OptedOut(out)) if out.everywhere => {
            format!("opted out everywhere ({})", out.channel)
        }
        Some(Fact::OptedOut(out)) => format!("opted out ({})", out.channel),
        Some(Fact::Success(_)) => "success".to_owned(),
        Some(Fact::LinkOpened(opened)) => format!("link opened: {}", opened.link),
        Some(Fact::TextSent(_)) => "text sent".to_owned(),
        Some(Fact::CalledIn(called)) => format!("called in{}", seconds(called.duration)),
        None => "not known to this version".to_owned(),
    }
}

/// Returns the details of an end in words, as in ", by the contact: Busy Here (code 486, cause 17)".
fn detail(detail: &v1::CallEndDetail) -> String {
    let party = match detail.hung_up_by() {
        v1::CallParty::Unspecified => "",
        v1::CallParty::Caller => ", by us",
        v1::CallParty::Contact => ", by the contact",
        v1::CallParty::Agent => ", by the agent",
        v1::CallParty::Provider => ", by the provider",
    };
    let reason = match detail.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let codes = [
        (detail.status_code != 0, format!("code {}", detail.status_code)),
        (detail.q850_cause != 0, format!("cause {}", detail.q850_cause)),
        (!detail.provider_call_id.is_empty(), format!("call {}", detail.provider_call_id)),
    ];
    let codes = codes.into_iter().filter_map(|(is_told, code)| is_told.then_some(code));
    match codes.collect::<Vec<_>>().join(", ") {
        codes if codes.is_empty() => format!("{party}{reason}"),
        codes => format!("{party}{reason} ({codes})"),
    }
}

impl Show for v1::ContactExplanation {
    const NAME: &'static str = "ContactExplanation";

    fn human(&self) -> String {
        sheet([
            ("standing", words(self.standing().as_str_name(), "CONTACT_STANDING_")),
            ("reason", exclusion(self.reason())),
            ("not before", time(self.next_attempt_time.as_ref())),
            ("in words", self.message.clone()),
        ])
    }
}

impl Show for v1::Suppression {
    const NAME: &'static str = "Suppression";

    fn human(&self) -> String {
        sheet([
            ("phone number", self.phone_number.clone()),
            ("source", self.source.clone()),
            ("listed", time(self.create_time.as_ref())),
        ])
    }
}

impl Show for v1::ListSuppressionsResponse {
    const NAME: &'static str = "ListSuppressionsResponse";

    fn human(&self) -> String {
        let rows = self.suppressions.iter().map(|one| {
            [one.phone_number.clone(), time(one.create_time.as_ref()), one.source.clone()]
        });
        table(["PHONE NUMBER", "LISTED", "SOURCE"], rows) + &more(&self.next_page_token)
    }
}

impl Show for v1::AddSuppressionsResponse {
    const NAME: &'static str = "AddSuppressionsResponse";

    fn human(&self) -> String {
        let listed = grouped(self.already_listed);
        let mut text = format!("{} added, {listed} listed before\n", grouped(self.added));
        for problem in &self.problems {
            text.push_str(&format!(
                "number {}: {} {}\n",
                problem.row, problem.field, problem.reason
            ));
        }
        text
    }
}

impl Show for v1::ErasePersonResponse {
    const NAME: &'static str = "ErasePersonResponse";

    fn human(&self) -> String {
        sheet([
            ("contacts erased", grouped(self.contacts_erased)),
            ("interactions deleted", grouped(self.interactions_deleted)),
            ("campaigns searched", grouped(self.campaigns_searched)),
        ])
    }
}

impl Show for v1::RecordInteractionsResponse {
    const NAME: &'static str = "RecordInteractionsResponse";

    fn human(&self) -> String {
        let rows = self.results.iter().map(|result| {
            let status = words(result.status().as_str_name(), "INTERACTION_STATUS_");
            [result.interaction_id.clone(), status, result.message.clone()]
        });
        table(["ID", "RESULT", "WHY"], rows)
    }
}

impl Show for v1::RouteInboundResponse {
    const NAME: &'static str = "RouteInboundResponse";

    fn human(&self) -> String {
        sheet([
            ("decision", words(self.decision().as_str_name(), "INBOUND_DECISION_")),
            ("reason", words(self.reason().as_str_name(), "TURN_AWAY_REASON_")),
            ("opens", time(self.open_time.as_ref())),
            ("contact", self.contact.clone()),
            ("made just now", if self.created { "yes".to_owned() } else { String::new() }),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(detail: Option<v1::CallEndDetail>) -> String {
        let outcome = v1::CallOutcome::InvalidNumber.into();
        let ended = v1::CallEnded { outcome, detail, ..Default::default() };
        fact(&v1::Interaction { fact: Some(Fact::CallEnded(ended)), ..Default::default() })
    }

    #[test]
    fn the_details_of_an_end_are_told_in_words() {
        assert_eq!(end(None), "call ended: invalid number");
        let outcome = v1::CallOutcome::Answered.into();
        let ended = v1::CallEnded { outcome, provisional: true, ..Default::default() };
        let answered = v1::Interaction { fact: Some(Fact::CallEnded(ended)), ..Default::default() };
        assert_eq!(fact(&answered), "call ended: answered, may still change");
        let all = v1::CallEndDetail {
            status_code: 404,
            q850_cause: 1,
            provider_call_id: "CA12".to_owned(),
            reason: "Not Found".to_owned(),
            hung_up_by: v1::CallParty::Provider.into(),
        };
        let text =
            "call ended: invalid number, by the provider: Not Found (code 404, cause 1, call CA12)";
        assert_eq!(end(Some(all)), text);
        let by =
            v1::CallEndDetail { hung_up_by: v1::CallParty::Caller.into(), ..Default::default() };
        assert_eq!(end(Some(by)), "call ended: invalid number, by us");
        let code = v1::CallEndDetail { status_code: 486, ..Default::default() };
        assert_eq!(end(Some(code)), "call ended: invalid number (code 486)");
    }
}
