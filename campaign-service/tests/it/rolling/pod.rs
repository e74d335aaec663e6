//! Pods: programs started with exactly their manifest's settings, and probed and stopped as Kubernetes does.

use super::cluster::Cluster;
use crate::support::PATIENCE;
use crate::support::processes::{campaign_service, dialer_worker};
use campaign_testkit::Program;
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Returns the template of a workload's pods.
pub fn template(workload: &Value) -> &Value {
    &workload["spec"]["template"]["spec"]
}

/// Returns the only container of a workload's pods.
pub fn container(workload: &Value) -> &Value {
    &template(workload)["containers"][0]
}

/// Returns a workload's program, whose name is that of the container's image.
pub fn program(workload: &Value) -> String {
    let image = container(workload)["image"].as_str().unwrap();
    let name = image.rsplit('/').next().unwrap();
    name.split(':').next().unwrap().to_owned()
}

/// Returns the program with the manifest's arguments and variables, as the pod at this address.
pub fn command(workload: &Value, name: &str, address: Ipv4Addr, cluster: &Cluster) -> Command {
    let program = program(workload);
    let mut command = match program.as_str() {
        "campaign-service" => campaign_service(),
        "dialer-worker" => dialer_worker(),
        other => panic!("there is no program {other}"),
    };
    let none = Vec::new();
    let args = container(workload)["args"].as_array().unwrap_or(&none);
    command.args(args.iter().map(|arg| arg.as_str().unwrap()));
    command.env_clear();
    for entry in container(workload)["env"].as_array().unwrap() {
        let variable = entry["name"].as_str().unwrap();
        command.env(variable, cluster.value(workload, entry, name, address));
    }
    command.envs(cluster.instead(&program));
    command
}

/// Findings of a pod's probes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    pub is_started: bool,
    pub is_ready: bool,
    /// Whether Kubernetes would kill the pod.
    pub is_sick: bool,
}

/// Running pod.
pub struct Pod {
    pub name: String,
    pub address: Ipv4Addr,
    pub process: Program,
    pre_stop: Duration,
    grace: Duration,
    found: watch::Receiver<Found>,
    probing: JoinHandle<()>,
    log: PathBuf,
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.probing.abort();
    }
}

impl Pod {
    pub fn start(workload: &Value, cluster: &Cluster) -> Self {
        let (name, address) = cluster.next_pod(workload);
        let log = cluster.path(&format!("{name}.log"));
        let mut command = command(workload, &name, address, cluster);
        let process = Program::start_logging(&mut command, &log).unwrap();
        let (sender, found) = watch::channel(Found::default());
        let probes = ["startupProbe", "readinessProbe", "livenessProbe"]
            .map(|kind| Probe::of(&container(workload)[kind], address));
        let seconds = |value: &Value| Duration::from_secs(value.as_u64().unwrap_or(0));
        Self {
            name,
            address,
            process,
            pre_stop: seconds(&container(workload)["lifecycle"]["preStop"]["sleep"]["seconds"]),
            grace: seconds(&template(workload)["terminationGracePeriodSeconds"]),
            found,
            probing: tokio::spawn(watch_over(probes, sender)),
            log,
        }
    }

    pub fn found(&self) -> Found {
        *self.found.borrow()
    }

    /// Waits until the findings of its probes meet a condition.
    pub async fn wait(&mut self, what: &str, condition: impl FnMut(&Found) -> bool) {
        let waited = timeout(PATIENCE, self.found.wait_for(condition)).await;
        let is_met = waited.is_ok_and(|met| met.is_ok());
        assert!(is_met, "{} is not {what}; it said:\n{}", self.name, self.said());
    }

    pub async fn ready(&mut self) {
        self.wait("ready", |found| found.is_ready).await;
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Stops the pod as Kubernetes does: waits for preStop, then tells the pod to stop. Panics after the grace period,
    /// when Kubernetes would kill the pod.
    pub async fn stop(mut self) -> ExitStatus {
        let kill_at = Instant::now() + self.grace;
        sleep(self.pre_stop).await;
        assert!(!self.found().is_sick, "{} would have been killed", self.name);
        self.probing.abort();
        self.process.signal("TERM").unwrap();
        let ended = self.process.until_ended(kill_at - Instant::now()).await;
        let name = &self.name;
        ended.unwrap_or_else(|_| panic!("{name} would be killed; it said:\n{}", self.said()))
    }
}

/// Probe of health over gRPC.
struct Probe {
    address: SocketAddr,
    service: String,
    period: Duration,
    limit: Duration,
    failures: u64,
}

impl Probe {
    fn of(manifest: &Value, address: Ipv4Addr) -> Self {
        let number = |key: &str, default: u64| manifest[key].as_u64().unwrap_or(default);
        let port = manifest["grpc"]["port"].as_u64().unwrap().try_into().unwrap();
        assert_eq!(number("initialDelaySeconds", 0), 0, "is not waited for here");
        Self {
            address: SocketAddr::from((address, port)),
            service: manifest["grpc"]["service"].as_str().unwrap_or_default().to_owned(),
            period: Duration::from_secs(number("periodSeconds", 10)),
            limit: Duration::from_secs(number("timeoutSeconds", 1)),
            failures: number("failureThreshold", 3),
        }
    }

    async fn ask(&self) -> bool {
        let asked = async {
            let endpoint = Channel::from_shared(format!("http://{}", self.address)).ok()?;
            let mut client = HealthClient::new(endpoint.connect().await.ok()?);
            let request = HealthCheckRequest { service: self.service.clone() };
            Some(client.check(request).await.ok()?.into_inner().status())
        };
        matches!(timeout(self.limit, asked).await, Ok(Some(ServingStatus::Serving)))
    }

    /// Probes again and again. Reports each success, and each failure beyond the threshold.
    async fn repeat(&self, mut tell: impl FnMut(bool)) {
        let mut failures = 0;
        loop {
            if self.ask().await {
                failures = 0;
                tell(true);
            } else {
                failures += 1;
                if failures >= self.failures {
                    tell(false);
                }
            }
            sleep(self.period).await;
        }
    }
}

async fn watch_over([startup, readiness, liveness]: [Probe; 3], found: watch::Sender<Found>) {
    let started = async {
        for _ in 0..startup.failures {
            if startup.ask().await {
                return true;
            }
            sleep(startup.period).await;
        }
        false
    };
    if !started.await {
        found.send_modify(|found| found.is_sick = true);
        return;
    }
    found.send_modify(|found| found.is_started = true);
    let ready = readiness.repeat(|is_ready| {
        found
            .send_if_modified(|found| std::mem::replace(&mut found.is_ready, is_ready) != is_ready);
    });
    let alive = liveness.repeat(|is_alive| {
        // One finding is enough: Kubernetes would have killed the pod.
        found.send_if_modified(|found| !is_alive && !std::mem::replace(&mut found.is_sick, true));
    });
    tokio::join!(ready, alive);
}
