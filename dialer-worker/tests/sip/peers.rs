//! Calls with programs that others wrote: kamailio between worker and trunk, baresip as the agent.

use std::path::PathBuf;
use std::time::Duration;

use campaign_proto::v1::CallOutcome;
use campaign_sip::{Baresip, Caller, Dnsmasq, Identity, Kamailio, Sipp, Traffic, takes};
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

/// Certificate of localhost, of an authority that nobody else trusts.
struct Certificate {
    folder: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificate {
    fn new() -> Self {
        campaign_process::install_tls_provider();
        let folder = std::env::temp_dir().join(format!("sip-tls-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).expect("a folder");
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        std::fs::write(&certificate, made.cert.pem()).expect("written");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        Self { folder, certificate, key }
    }

    fn identity(&self) -> Identity<'_> {
        Identity { certificate: &self.certificate, key: &self.key }
    }

    /// Returns the file for `--sip-ca-file`.
    fn trusted(&self) -> String {
        self.certificate.display().to_string()
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
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

/// The preferred server has an error, so the call goes to the other one.
#[tokio::test]
#[ignore = "needs sipp and dnsmasq: make test-sip"]
async fn a_domain_names_the_servers_of_its_trunk() {
    let mut sipp = trunk().await;
    let port = |address: &str| address.rsplit(':').next()?.parse::<u16>().ok();
    let words = [("code", "503"), ("retry_after", "0")];
    let failing = Sipp::start_with("rejects", Traffic::Udp, &words).await.expect("sipp");
    let [preferred, other] =
        [&failing, &sipp].map(|server| port(&server.address()).expect("a port"));
    let names = Dnsmasq::start(&[(other, 20), (preferred, 10)]).await.expect("dnsmasq");
    let names = names.address();
    let flags = ["--sip-name-server", &names, "--sip-talk-limit-seconds", "1"];
    let mut worker = CallingWorker::over_sip("trunk.example", &flags).await;
    assert_eq!(called(&mut worker).await, Some(CallOutcome::Answered));
    worker.stop().await;
    sipp.finish().await.expect("its calls end");
    assert_eq!((failing.invites().len(), sipp.count("hung_up_here")), (1, 1));
}

/// The certificate is of an authority that only the worker with its file trusts.
#[tokio::test]
#[ignore = "needs sipp, kamailio and baresip: make test-sip"]
async fn a_trunk_is_reached_over_tls() {
    let certificate = Certificate::new();
    let mut sipp = trunk().await;
    let identity = Some(certificate.identity());
    let kamailio = Kamailio::start("SHA-256", &sipp.address(), identity).await.expect("kamailio");
    let trusted = certificate.trusted();
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
}

/// The trunk takes UDP, and the agent is behind a proxy that wants TLS and a password.
#[tokio::test]
#[ignore = "needs sipp, kamailio and baresip: make test-sip"]
async fn an_agent_is_reached_over_tls() {
    let certificate = Certificate::new();
    let words = [("ringing", "0"), ("patience", "700"), ("media_port", "7290"), ("further", "")];
    let mut person = Sipp::start_with("person", Traffic::Udp, &words).await.expect("sipp");
    let stays = takes("BYE", "left");
    let words = [("delay", "20"), ("then", stays.as_str())];
    let mut agent = Sipp::start_with("agent", Traffic::Udp, &words).await.expect("sipp");
    let identity = Some(certificate.identity());
    let kamailio = Kamailio::start("SHA-256", &agent.address(), identity).await.expect("kamailio");
    let address = format!("sip:agent@{};transport=tls", kamailio.secure_address());
    let flags = ["--sip-agent", &address, "--sip-agent-user", "4711", "--sip-agent-password"];
    let (password, trusted) = ("open sesame", certificate.trusted());
    let flags = [&flags[..], &[password, "--sip-ca-file", &trusted]].concat();
    let mut worker = CallingWorker::over_sip(&person.address(), &flags).await;
    let outcome = called(&mut worker).await;
    assert_eq!(outcome, Some(CallOutcome::Answered), "{}", kamailio.log());
    worker.stop().await;
    person.finish().await.expect("the person's call ends");
    agent.finish().await.expect("the agent's call ends");
    assert_eq!(person.logged("connected to"), ["7294"], "{}", kamailio.log());
    assert_eq!(
        (agent.count("left"), agent.count("FailedCall")),
        (1, 0),
        "{} {}",
        agent.errors(),
        kamailio.log()
    );
}

/// Both voices go past the worker, between the two phones. What one sent, the other received.
#[tokio::test]
#[ignore = "needs sipp, kamailio and baresip: make test-sip"]
async fn person_and_agent_hear_each_other() {
    let person = Baresip::start("+15550000004").await.expect("baresip");
    let agent = Baresip::start("agent").await.expect("baresip");
    let address = format!("sip:agent@{}", agent.address());
    // baresip counts when it reports, every five seconds.
    let flags = ["--sip-agent", &address, "--sip-talk-limit-seconds", "8"];
    let mut worker = CallingWorker::over_sip(&person.address(), &flags).await;
    let outcome = called(&mut worker).await;
    assert_eq!(outcome, Some(CallOutcome::Answered), "{} {}", person.log(), agent.log());
    worker.stop().await;
    let told = async {
        loop {
            if let ([person], [agent]) =
                (person.audio_packets().as_slice(), agent.audio_packets().as_slice())
            {
                return (*person, *agent);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (at_person, at_agent) = timeout(Duration::from_secs(10), told)
        .await
        .unwrap_or_else(|_| panic!("no sums: {} {}", person.log(), agent.log()));
    // 50 packets a second, less those before both knew where to send.
    for ((sent, _), (_, received)) in [(at_person, at_agent), (at_agent, at_person)] {
        assert!(received >= 120 && received <= sent, "{sent} sent, {received} received");
    }
}

/// kamailio says 100, and then its gateway is dead or has an error: the list is not burnt.
#[tokio::test]
#[ignore = "needs sipp, kamailio and baresip: make test-sip"]
async fn a_broken_gateway_behind_kamailio_costs_a_few_attempts_at_most() {
    const CONTACTS: usize = 40;
    let words = [("code", "503"), ("retry_after", "0")];
    let failing = Sipp::start_with("rejects", Traffic::Udp, &words).await.expect("sipp");
    // A socket that answers nobody.
    let dead = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let silent = dead.local_addr().expect("bound").to_string();
    for (gateway, expected) in
        [(failing.address(), CallOutcome::Congested), (silent, CallOutcome::Failed)]
    {
        let kamailio = Kamailio::start("MD5", &gateway, None).await.expect("kamailio");
        let flags = [&LOGIN[..], &["--max-calls", "10", "--provider-failures", "5"]].concat();
        let mut worker = CallingWorker::over_sip(&kamailio.address(), &flags).await;
        worker.stream.lease_slots(1, 0..40).await;
        let mut reported = Reported::default();
        while reported.ends.len() + worker.released.len() < CONTACTS {
            worker.note_next(&mut reported).await;
        }
        assert_eq!(reported.ends.len(), 5, "{gateway}: {}", kamailio.log());
        assert_eq!(reported.count(expected), 5, "{gateway}: {:?}", reported.ends);
        worker.stop().await;
    }
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
