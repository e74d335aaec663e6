//! Fuzz tests of requests: reading any input gives a value or an error, never a panic. `make fuzz` tries more inputs.

use super::wire::Shapes;
use super::{check, convert, facts, imports, names, page, rows};
use crate::links::token::Signer;
use crate::tokens;
use campaign_domain::access::{Caller, Tenant};
use campaign_domain::lease::AttemptId;
use campaign_domain::phone::{self, Reading, Region};
use campaign_proto::v1;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;
use std::sync::LazyLock;

fn in_us() -> Reading {
    Reading { region: Region::from_code("US"), allows_costly: false }
}

/// Returns the configuration with the number of inputs of each kind.
pub(crate) fn inputs() -> ProptestConfig {
    let cases = std::env::var("FUZZ_INPUTS").ok().and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: cases.unwrap_or(2_000),
        failure_persistence: None,
        ..Default::default()
    }
}

/// Change of some bytes.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Byte(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, Index),
    Repeat(Index, Index),
    Cut(Index),
}

pub(crate) fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        (at(), vec(any::<u8>(), 1..12)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (at(), at()).prop_map(|(from, to)| Change::Remove(from, to)),
        (at(), at()).prop_map(|(from, to)| Change::Repeat(from, to)),
        at().prop_map(Change::Cut),
    ]
}

pub(crate) fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let length = bytes.len();
        let place = |at: &Index| at.index(length + 1);
        let range = |a: &Index, b: &Index| place(a).min(place(b))..place(a).max(place(b));
        match change {
            Change::Byte(at, byte) if length > 0 => bytes[at.index(length)] = *byte,
            Change::Byte(..) => {}
            Change::Insert(at, new) => {
                bytes.splice(place(at)..place(at), new.iter().copied());
            }
            Change::Remove(a, b) => {
                bytes.drain(range(a, b));
            }
            Change::Repeat(a, b) => {
                let piece = bytes[range(a, b)].to_vec();
                bytes.splice(place(a)..place(a), piece);
            }
            Change::Cut(at) => bytes.truncate(place(at)),
        }
    }
    bytes
}

/// Returns a strategy for numbers at the edges of ranges, and for any others.
fn edge() -> impl Strategy<Value = i64> {
    let edges = [0, 1, -1, i64::MAX, i64::MIN, 253_402_300_800, -62_135_596_801, 1 << 32];
    prop_oneof![prop::sample::select(edges.to_vec()), any::<i64>()]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,40}",
        "(campaigns|suppressions)/[0-9a-f-]{0,40}(/(contacts|leases|imports)/[0-9-]{0,25})?",
        "\\+?[0-9 ().;ext-]{0,30}",
        "[0-9-]{0,60}",
        "[1-9]{1,3}-[1-9]{1,5}-[1-9]",
        "(\\+1|\\+44|00|\\(0\\))?(415555|20794|30123)[0-9]{4,6}",
        Just(String::new()),
        Just("Europe/Berlin".to_owned()),
        Just("2026-02-30".to_owned()),
        Just("8b0f5f3e-6a83-4d4e-9c6f-000000000001".to_owned()),
    ]
}

fn campaign() -> impl Strategy<Value = v1::Campaign> {
    (text(), text(), edge(), edge(), any::<[i32; 4]>()).prop_map(|(name, zone, a, b, ints)| {
        let [weekday, minute, more, nanos] = ints;
        let time = |seconds| Some(prost_types::Timestamp { seconds, nanos });
        let wait = |seconds| Some(prost_types::Duration { seconds, nanos });
        let window = |weekday| v1::WeeklyWindow { weekday, start_minute: minute, end_minute: more };
        let rule = v1::RetryRule { max_attempts: more, min_delay: wait(a) };
        v1::Campaign {
            display_name: name.clone(),
            schedule: Some(v1::Schedule {
                start_time: time(a),
                end_time: time(b),
                time_zone: zone.clone(),
                windows: vec![window(weekday), window(1 + weekday.rem_euclid(7))],
                blackout_dates: vec![zone.clone()],
            }),
            retry_policy: Some(v1::RetryPolicy { busy: Some(rule), ..Default::default() }),
            link_url: name.clone(),
            worker_pool: name,
            channels: vec![zone],
            ..Default::default()
        }
    })
}

fn row() -> impl Strategy<Value = v1::ImportRow> {
    let priority = prop_oneof![0..10, any::<i32>()];
    (text(), text(), text(), priority).prop_map(|(number, name, zone, priority)| v1::ImportRow {
        phone_number: number,
        display_name: name.clone(),
        time_zone: zone.clone(),
        priority,
        attributes: [(if priority % 2 == 0 { "note".to_owned() } else { name }, zone)].into(),
    })
}

fn interaction() -> impl Strategy<Value = v1::Interaction> {
    use v1::interaction::Fact;
    let seconds = prop_oneof![0_i64..90_000, edge()];
    let nanos = prop_oneof![0..7, any::<i32>()];
    (text(), text(), seconds, nanos, 0..4).prop_map(|(id, of, seconds, nanos, kind)| {
        let duration = Some(prost_types::Duration { seconds, nanos });
        let detail = Some(v1::CallEndDetail {
            status_code: nanos,
            reason: of.clone(),
            provider_call_id: id.clone(),
            ..Default::default()
        });
        let fact = match kind {
            0 => Fact::CallEnded(v1::CallEnded {
                outcome: nanos,
                duration,
                detail,
                provisional: nanos % 2 == 0,
            }),
            1 => Fact::Transferred(v1::Transferred { seconds_before_transfer: nanos }),
            2 => Fact::OptedOut(v1::OptedOut { channel: of.clone(), everywhere: false }),
            _ => Fact::CalledIn(v1::CalledIn { duration }),
        };
        v1::Interaction {
            interaction_id: id.clone(),
            contact: id,
            attempt_id: of,
            occur_time: Some(prost_types::Timestamp { seconds, nanos }),
            fact: Some(fact),
            ..Default::default()
        }
    })
}

/// Reads bytes as every request that can be read without a database.
fn read_as_everything(bytes: &[u8]) {
    if let Ok(campaign) = v1::Campaign::decode(bytes) {
        read_campaign(campaign);
    }
    if let Ok(request) = v1::CreateCampaignRequest::decode(bytes) {
        read_campaign(request.campaign.unwrap_or_default());
    }
    if let Ok(request) = v1::UpdateCampaignRequest::decode(bytes) {
        let fields = check::config_fields(request.update_mask.clone());
        if let (Some(campaign), Ok(fields)) = (request.campaign, fields) {
            let _ = convert::config(campaign, Some(&fields));
        }
    }
    if let Ok(request) = v1::LaunchCampaignRequest::decode(bytes) {
        let texts = [&request.etag, &request.request_id, &request.actor, &request.reason];
        let _ =
            convert::invocation("Launch", &request, texts.map(String::as_str), &Caller::default());
        let _ = convert::settings(request.settings);
        let _ = names::campaign("name", &request.name);
    }
    if let Ok(rows) = v1::ImportRows::decode(bytes) {
        let _ = imports::read_rows(rows, in_us(), "");
    }
    if let Ok(row) = v1::ImportRow::decode(bytes) {
        let _ = rows::new_contact("", row, Reading::default());
    }
    if let Ok(interaction) = v1::Interaction::decode(bytes) {
        let _ = names::contact("contact", &interaction.contact);
        let _ = facts::report(interaction, 0);
    }
    if let Ok(key) = v1::LeaseKey::decode(bytes) {
        let _ = names::lease(Some(&key));
    }
    decodes::<v1::CreateCampaignRequest>("CampaignService/CreateCampaign", bytes);
    decodes::<v1::LaunchCampaignRequest>("CampaignService/LaunchCampaign", bytes);
    decodes::<v1::ImportContactsRequest>("ContactService/ImportContacts", bytes);
    decodes::<v1::AddSuppressionsRequest>("ContactService/AddSuppressions", bytes);
    decodes::<v1::RecordInteractionsRequest>("InteractionService/RecordInteractions", bytes);
    decodes::<v1::DispatchRequest>("DispatchService/Dispatch", bytes);
}

/// Asserts that bytes that pass the check can be decoded, so that the library's decoder never
/// answers instead of the service.
fn decodes<M: Message + Default>(method: &str, bytes: &[u8]) {
    static SHAPES: LazyLock<Shapes> = LazyLock::new(|| Shapes::of(&[v1::FILE_DESCRIPTOR_SET]));
    let input = SHAPES.input(&format!("/campaign.v1.{method}")).expect("a method");
    let decoded = M::decode(bytes);
    if SHAPES.check(input, bytes).is_ok() {
        assert!(decoded.is_ok(), "{method}: {:?}", decoded.err());
    }
}

/// Uses a campaign that was read without an error: computes the hours of its schedule.
fn read_campaign(campaign: v1::Campaign) {
    let Ok(config) = convert::config(campaign, None) else { return };
    let Some(schedule) = config.schedule else { return };
    for now in [0, 951_782_400, 1_774_746_000, 4_102_444_800] {
        let now = chrono::DateTime::from_timestamp(now, 0).unwrap_or_default();
        let _ = schedule.hours("", now);
        let _ = schedule.hours("America/New_York", now);
    }
}

fn read_text(text: &str) {
    let _ = names::campaign("name", text);
    let _ = names::contact("name", text);
    let _ = names::import("name", text);
    let _ = names::suppression("name", text);
    let _ = page::last_item(&Tenant::default(), "contacts", text, |item| item.parse::<i64>().ok());
    if let Ok(id) = text.parse::<AttemptId>() {
        assert_eq!(id.to_string(), text);
    }
    for region in [None, Region::from_code("US"), Region::from_code("DE"), Region::from_code(text)]
    {
        if let Ok(number) = phone::to_e164(text, region) {
            // A stored number reads back as itself, and is no longer than E.164 allows.
            assert_eq!(phone::to_e164(&number, None).as_deref(), Ok(number.as_str()), "{text:?}");
            assert!(number.len() <= 16 && phone::as_integer(&number) > 0, "{number}");
        }
    }
    let signer = Signer::new("a key that is long enough for the tests").expect("long enough");
    assert_eq!(signer.read(text), None, "nobody signed {text:?}");
}

proptest! {
    #![proptest_config(inputs())]

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..200)) {
        read_as_everything(&bytes);
        let _ = tokens::keys_of_set(&bytes);
        let _ = tokens::key_of_pem(&bytes);
    }

    #[test]
    fn campaigns_that_were_tampered_with(
        campaign in campaign(), changes in vec(change(), 0..4)
    ) {
        read_as_everything(&changed(campaign.encode_to_vec(), &changes));
        let request = v1::CreateCampaignRequest { campaign: Some(campaign), ..Default::default() };
        read_as_everything(&changed(request.encode_to_vec(), &changes));
    }

    #[test]
    fn rows_that_were_tampered_with(
        rows in vec(row(), 0..4), first_row in edge(), changes in vec(change(), 0..4)
    ) {
        let rows = v1::ImportRows { first_row, rows };
        read_as_everything(&changed(rows.encode_to_vec(), &changes));
    }

    #[test]
    fn interactions_that_were_tampered_with(
        interaction in interaction(), changes in vec(change(), 0..4)
    ) {
        read_as_everything(&changed(interaction.encode_to_vec(), &changes));
        let report = v1::Report { interactions: vec![interaction], ..Default::default() };
        let message = Some(v1::dispatch_request::Message::Report(report));
        let request = v1::DispatchRequest { message };
        read_as_everything(&changed(request.encode_to_vec(), &changes));
    }

    #[test]
    fn any_text(text in text()) {
        read_text(&text);
    }

    #[test]
    fn key_sets_that_were_tampered_with(changes in vec(change(), 0..6)) {
        let set = br#"{"keys":[{"kty":"EC","crv":"P-256","kid":"a","alg":"ES256","use":"sig",
            "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
        let _ = tokens::keys_of_set(&changed(set.to_vec(), &changes));
    }
}

/// Shows that the strategies reach both cases: some inputs are accepted, some are rejected.
#[test]
fn inputs_are_of_both_kinds() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut taken = [0_u32; 3];
    for _ in 0..1_000 {
        let row = row().new_tree(&mut runner).expect("a row").current();
        let interaction = interaction().new_tree(&mut runner).expect("one").current();
        let text = text().new_tree(&mut runner).expect("a text").current();
        let is_taken = [
            rows::new_contact("", row, in_us()).is_ok(),
            facts::report(interaction, 0).is_ok(),
            phone::to_e164(&text, Region::from_code("US")).is_ok(),
        ];
        taken.iter_mut().zip(is_taken).for_each(|(taken, is)| *taken += u32::from(is));
    }
    assert!(taken.iter().all(|taken| (1..1_000).contains(taken)), "{taken:?}");
}
