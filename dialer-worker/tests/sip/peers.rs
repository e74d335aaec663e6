//! Calls with programs that others wrote: kamailio between worker and trunk, baresip as the agent.

use std::time::Duration;

use campaign_proto::v1::CallOutcome;
use campaign_sip::{Baresip, Caller, Identity, Kamailio, Sipp, Traffic};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::fake::outcome;
use crate::service::{CallingWorker, Reported};

const LOGIN: [&str; 4] = ["--sip-user", "4711", "--sip-password", "open sesame"];

/// Returns a trunk behind the proxy, whose call the worker ends.
async fn trunk() -> Sipp {
    let words = [("status", "200 OK"), ("contact_line", "Contact: <sip:[local_ip]:[local_port]>")];
    Sipp::start_with("untidy", Traffic::Udp, &words).await.expect("sipp")
}

/// Calls one person, and returns the outcome.
async fn called(worker: &mut CallingWorker) -> Option<CallOutcome> {
    worker.stream.lease_slots(1, [4]).await;
    let mut reported = Reported::default();
    while reported.ends.is_empty() {
        worker.note_next(&mut reported).await;
    }
    reported.ends.values().next().and_then(outcome)
}

/// kamailio checks the responses of both algorithms itself, of the INVITE and of the BYE.
#[tokio::test]
#[ignore = "needs sipp, kamailio and baresip: make test-sip"]
async fn kamailio_takes_the_password_by_each_algorithm() {
    for algorithm in ["MD5", "SHA-256"] {
        for transport in ["udp", "tcp"] {
            let mut sipp = trunk().await;
            let kamailio =
                Kamailio::start(algorithm, &sipp.address(), None).await.expect("kamailio");
            let flags = ["--sip-talk-limit-seconds", "1", "--sip-transport", transport];
            let flags = [&LOGIN[..], &flags].concat();
            let mut worker = CallingWorker::over_sip(&kamailio.address(), &flags).await;
            let outcome = called(&mut worker).await;
            assert_eq!(
                outcome,
                Some(CallOutcome::Answered),
                "{algorithm} {transport}: {}",
                kamailio.log()
            );
            worker.stop().await;
            sipp.finish().await.expect("its calls end");
            assert_eq!(
                sipp.count("hung_up_here"),
                1,
                "{algorithm} {transport}: {}",
                kamailio.log()
            );
        }
    }
}

/// The certificate is of an authority that only the worker with its file trusts.
#[tokio::test]
#[ignore = "needs sipp, kamailio and baresip: make test-sip"]
async fn a_trunk_is_reached_over_tls() {
    let folder = std::env::temp_dir().join(format!("sip-tls-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).expect("a folder");
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    campaign_process::install_tls_provider();

    let mut sipp = trunk().await;
    let identity = Identity { certificate: &certificate, key: &key };
    let kamailio =
        Kamailio::start("SHA-256", &sipp.address(), Some(identity)).await.expect("kamailio");
    let trusted = certificate.display().to_string();
    let tls = ["--sip-transport", "tls", "--sip-talk-limit-seconds", "1"];
    let flags = [&LOGIN[..], &tls, &["--sip-ca-file", &trusted]].concat();
    let mut worker = CallingWorker::over_sip(&kamailio.secure_address(), &flags).await;
    let outcome = called(&mut worker).await;
    assert_eq!(outcome, Some(CallOutcome::Answered), "{}", kamailio.log());
    worker.stop().await;
    sipp.finish().await.expect("its calls end");
    assert_eq!(sipp.count("hung_up_here"), 1, "{}", kamailio.log());

    let flags = [&LOGIN[..], &tls].concat();
    let mut worker = CallingWorker::over_sip(&kamailio.secure_address(), &flags).await;
    assert_eq!(called(&mut worker).await, Some(CallOutcome::Congested), "nobody vouches for it");
    worker.stop().await;
    let _ = std::fs::remove_dir_all(folder);
}

/// The agent's voice goes to the person's phone, past the worker: here the phone is a socket that counts datagrams.
#[tokio::test]
#[ignore = "needs sipp, kamailio and baresip: make test-sip"]
async fn the_voice_of_an_agent_reaches_the_person() {
    let phone = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let media = phone.local_addr().expect("bound").port().to_string();
    let words = [("patience", "2500"), ("media_port", media.as_str()), ("further", "")];
    let mut person = Sipp::start_with("person", Traffic::Udp, &words).await.expect("sipp");
    let agent = Baresip::start().await.expect("baresip");
    let flags = ["--sip-agent", &agent.address()];
    let mut worker = CallingWorker::over_sip(&person.address(), &flags).await;
    let voice = tokio::spawn(async move {
        let (mut datagram, mut heard) = ([0; 2_048], 0);
        while heard < 50 {
            let (length, _) = phone.recv_from(&mut datagram).await.expect("a datagram");
            // RTP, version 2, PCMU, 20 ms.
            assert_eq!((datagram[0] >> 6, datagram[1] & 0x7f, length), (2, 0, 172));
            heard += 1;
        }
    });
    let outcome = called(&mut worker).await;
    assert_eq!(outcome, Some(CallOutcome::Answered), "{}", agent.log());
    timeout(Duration::from_secs(1), voice).await.expect("a second of voice").expect("RTP");
    worker.stop().await;
    person.finish().await.expect("the person's call ends");
    assert_eq!(person.count("FailedCall"), 0, "{}", person.errors());
}

/// Calls the registered user, and returns the final code: 404 of the proxy that finds nobody, 480 of a worker that takes
/// no calls.
async fn code_for_callers(kamailio: &Kamailio) -> String {
    let caller = Caller { called: "4711".to_owned(), ..Caller::new("+14155550100") };
    let said = caller.call("calls_in", &kamailio.address()).await.expect("a final answer");
    said.first().and_then(|line| line.split(' ').next()).expect("a code").to_owned()
}

#[tokio::test]
#[ignore = "needs sipp, kamailio and baresip: make test-sip"]
async fn a_worker_registers_and_takes_it_back() {
    for (algorithm, transport) in [("MD5", "udp"), ("SHA-256", "tcp")] {
        let kamailio = Kamailio::start(algorithm, "127.0.0.1:9", None).await.expect("kamailio");
        let flags = [&LOGIN[..], &["--sip-register", "--sip-transport", transport]].concat();
        let worker = CallingWorker::over_sip(&kamailio.address(), &flags).await;
        let registered = async {
            while code_for_callers(&kamailio).await != "480" {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(Duration::from_secs(15), registered).await.unwrap_or_else(|_| {
            panic!("{algorithm} {transport}: not registered: {}", kamailio.log());
        });
        worker.stop().await;
        assert_eq!(code_for_callers(&kamailio).await, "404", "{algorithm} {transport}");
    }
}
