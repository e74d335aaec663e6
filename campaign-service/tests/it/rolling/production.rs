//! The production overlay: everything that exists before its pods, and the work of a Deployment on them.

use super::cluster::{Cluster, Manifests, Name};
use super::pod::{Pod, command, container, program};
use crate::listening::{files, tls_before_postgres};
use crate::support::access::{Authority, Folder, Signer, claims, key_set};
use crate::support::processes::{campaign_service, dialer_worker};
use crate::support::{Clients, TestDb};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};

/// Prerequisites of the pods: certificates, tokens, a database that speaks TLS, a name.
pub struct Production {
    manifests: Manifests,
    pub cluster: Cluster,
    authority: Authority,
    signer: Signer,
    audience: String,
    name: Name,
    pub db: TestDb,
    _folder: Folder,
}

impl Production {
    pub async fn new() -> Self {
        let (manifests, mut cluster) = (Manifests::render("prod"), Cluster::new());
        let (authority, signer) = (Authority::new(), Signer::new("first"));
        let (db, folder) = (TestDb::new().await, Folder::new());
        let port = tls_before_postgres(&db, &files(&folder, &authority, None)).await;
        let direct = db.url.parse::<tokio_postgres::Config>().unwrap().get_ports()[0];
        let url = db.url.replace(&format!(":{direct}/"), &format!(":{port}/"));
        cluster.keep("campaign-database", "url", &format!("{url}?sslmode=require"));
        cluster.keep("campaign-database-ca", "ca.crt", &authority.pem());
        let at = cluster.name_address();
        let (certificate, key) = authority.issue_for(&[&at.to_string()]);
        cluster.keep("campaign-service-tls", "tls.crt", &certificate);
        cluster.keep("campaign-service-tls", "tls.key", &key);
        cluster.keep("campaign-service-ca", "ca.crt", &authority.pem());
        cluster.keep("campaign-token-keys", "jwks.json", &key_set(&[&signer]));
        cluster.keep("campaign-erasure-key", "key", &"erasure key ".repeat(4));
        for program in ["campaign-service", "dialer-worker"] {
            // No collector listens there; everything else works.
            cluster.set(program, "CAMPAIGN_OTLP_ENDPOINT", "http://127.0.0.1:9");
        }
        let service = manifests.find("Deployment", "campaign-service");
        let audience = variable(service, "CAMPAIGN_TOKEN_AUDIENCE");
        cluster.keep("dialer-worker-token", "token", &token(&signer, &audience, "worker"));
        cluster.keep("dialer-sip", "user", "4711");
        cluster.keep("dialer-sip", "password", "not asked for");
        let log = cluster.path("dials");
        cluster.set("dialer-worker", "DIALER_PROVIDER", "simulated");
        cluster.set("dialer-worker", "DIALER_TIME_SCALE", "0.01");
        cluster.set("dialer-worker", "DIALER_DIAL_LOG", log.to_str().unwrap());
        let name = Name::at(SocketAddr::from((at, port_of(service, "grpc")))).await;
        Self { manifests, cluster, authority, signer, audience, name, db, _folder: folder }
    }

    /// Returns clients with the role operator.
    pub async fn clients(&self) -> Clients {
        let ca = Certificate::from_pem(self.authority.pem());
        let channel = Channel::from_shared(format!("https://{}", self.target())).unwrap();
        let channel = channel.tls_config(ClientTlsConfig::new().ca_certificate(ca)).unwrap();
        let channel = channel.connect().await.unwrap();
        Clients::over(channel, Default::default()).with_token(&self.token("operator"))
    }

    pub fn token(&self, role: &str) -> String {
        token(&self.signer, &self.audience, role)
    }

    pub fn target(&self) -> String {
        let service = self.manifests.find("Deployment", "campaign-service");
        format!("{}:{}", self.cluster.name_address(), port_of(service, "grpc"))
    }

    /// Starts as many pods as the autoscaler keeps at least. Returns when all are ready.
    pub async fn scale(&self, scaler: &str, least: &str, deployment: &str) -> Vec<Pod> {
        let replicas = self.manifests.find(scaler, deployment)["spec"][least].as_u64().unwrap();
        let workload = self.manifests.find("Deployment", deployment);
        let mut pods: Vec<Pod> =
            (0..replicas).map(|_| Pod::start(workload, &self.cluster)).collect();
        for pod in &mut pods {
            pod.ready().await;
            self.open(workload, pod).await;
        }
        pods
    }

    /// Checks that a ready pod listens on its manifest's ports, and makes it known to clients.
    async fn open(&self, workload: &Value, pod: &Pod) {
        for port in container(workload)["ports"].as_array().unwrap() {
            let number: u16 = port["containerPort"].as_u64().unwrap().try_into().unwrap();
            let connected = TcpStream::connect((pod.address, number)).await;
            assert!(connected.is_ok(), "{} does not listen on {port}", pod.name);
        }
        if program(workload) == "campaign-service" {
            self.name.add(SocketAddr::from((pod.address, port_of(workload, "grpc"))));
        }
    }

    /// Replaces pods as a Deployment does with maxSurge 1 and maxUnavailable 0. After a new pod has been ready for a
    /// while, an old pod is told to stop. The next new pod does not wait for the end of that old pod.
    pub async fn roll(&self, deployment: &str, pods: Vec<Pod>) -> Vec<Pod> {
        let workload = self.manifests.find("Deployment", deployment);
        let settle = workload["spec"]["minReadySeconds"].as_u64().unwrap();
        let mut stopping: JoinSet<ExitStatus> = JoinSet::new();
        let mut new = Vec::new();
        for old in pods {
            let mut pod = Pod::start(workload, &self.cluster);
            pod.ready().await;
            self.open(workload, &pod).await;
            sleep(Duration::from_secs(settle)).await;
            assert!(pod.found().is_ready, "{} is not ready any more", pod.name);
            new.push(pod);
            if deployment == "campaign-service" {
                self.name.forget(SocketAddr::from((old.address, port_of(workload, "grpc"))));
            }
            stopping.spawn(old.stop());
        }
        for status in stopping.join_all().await {
            assert!(status.success(), "a {deployment} ended with {status}");
        }
        new
    }

    /// Runs the migration job to its end.
    pub async fn migrate(&self) {
        let job = self.manifests.find("Job", "campaign-migrate");
        let mut command = command(job, "campaign-migrate", Ipv4Addr::LOCALHOST, &self.cluster);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn dial_log(&self) -> PathBuf {
        self.cluster.path("dials")
    }
}

fn token(signer: &Signer, audience: &str, role: &str) -> String {
    let mut claims = claims("", &[role]);
    claims["aud"] = audience.into();
    signer.sign(&claims)
}

/// Returns a variable's value in a manifest.
fn variable(workload: &Value, name: &str) -> String {
    let entries = container(workload)["env"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["name"] == name).unwrap();
    entry["value"].as_str().unwrap().to_owned()
}

pub fn port_of(workload: &Value, name: &str) -> u16 {
    let ports = container(workload)["ports"].as_array().unwrap();
    let port = ports.iter().find(|port| port["name"] == name).unwrap();
    port["containerPort"].as_u64().unwrap().try_into().unwrap()
}

/// Returns whether a program knows a variable, by its own help.
pub fn is_known(workload: &Value, variable: &str) -> bool {
    let mut command = match program(workload).as_str() {
        "campaign-service" => campaign_service(),
        _ => dialer_worker(),
    };
    let none = Vec::new();
    let args = container(workload)["args"].as_array().unwrap_or(&none);
    command.args(args.iter().map(|arg| arg.as_str().unwrap())).arg("--help");
    let help = String::from_utf8(command.output().unwrap().stdout).unwrap();
    ["=", "]"].iter().any(|end| help.contains(&format!("[env: {variable}{end}")))
}
