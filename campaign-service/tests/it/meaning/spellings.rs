//! B12: numbers of one subscriber in two spellings.

use super::{add_contact, everywhere, report_by_number, suppress, unsuppress};
use crate::support::{Service, TestDb};
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{ExclusionReason, InboundDecision, InteractionStatus};
use tonic::Code;

/// Numbers of Mexico, Argentina and Brazil, with and without the digit that marks mobile phones.
const TWINS: [(&str, &str); 3] = [
    ("+5215512345678", "+525512345678"),
    ("+5491123456789", "+541123456789"),
    ("+5511987654321", "+551187654321"),
];

#[tokio::test]
async fn an_opt_out_and_a_suppression_reach_both_spellings() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    for (long, short) in TWINS {
        for (stored, told) in [(long, short), (short, long)] {
            let name = clients.create_campaign().await;
            let contact = add_contact(&mut clients, &name, stored, "").await.unwrap();
            clients.launch(&name).await;
            let reason = async |clients: &mut crate::support::Clients| {
                clients.explain(&contact).await.reason()
            };
            let opt_out = Fact::OptedOut(v1::OptedOut::default());
            let result = report_by_number(&mut clients, &name, told, opt_out).await;
            assert_eq!(result.status(), InteractionStatus::Recorded, "{told} {result:?}");
            assert_eq!(reason(&mut clients).await, ExclusionReason::Refused, "{told}");
            let again = add_contact(&mut clients, &name, told, "").await.unwrap_err();
            assert_eq!(again.code(), Code::AlreadyExists, "{again:?}");
            assert_eq!(suppress(&mut clients, told).await.added, 1);
            assert_eq!(reason(&mut clients).await, ExclusionReason::Suppressed, "{told}");
            let request = v1::RouteInboundRequest {
                parent: name.clone(),
                phone_number: stored.to_owned(),
                ..Default::default()
            };
            let routed = clients.interactions.route_inbound(request).await.unwrap().into_inner();
            assert_eq!(routed.decision(), InboundDecision::TurnAway);
            assert_eq!(suppress(&mut clients, stored).await.already_listed, 1);
            unsuppress(&mut clients, told).await.unwrap();
            let listed = v1::ListSuppressionsRequest::default();
            let listed = clients.contacts.list_suppressions(listed).await.unwrap().into_inner();
            assert!(listed.suppressions.is_empty(), "{listed:?}");
        }
    }
}

#[tokio::test]
async fn a_stranger_who_opts_out_in_one_spelling_is_not_called_in_the_other() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients
        .launch_with(&name, v1::LaunchSettings { live_forever: true, ..Default::default() })
        .await;
    for (long, short) in TWINS {
        let told = report_by_number(&mut clients, &name, long, everywhere()).await;
        assert_eq!(told.status(), InteractionStatus::Recorded, "{told:?}");
        let contact = add_contact(&mut clients, &name, short, "").await.unwrap();
        assert_eq!(clients.explain(&contact).await.reason(), ExclusionReason::Suppressed);
    }
}
