//! Stand-in for a cluster. It gives pods an address of their own, secrets as variables and mounted files, and a name
//! that leads to the ready pods.

use super::pod::{program, template};
use crate::support::access::Folder;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Delay until clients learn that a pod stops. It is less than any preStop.
const LEARNED_LATE: Duration = Duration::from_secs(7);

/// Objects of an overlay, as kubectl renders them.
pub struct Manifests(Vec<Value>);

impl Manifests {
    pub fn render(overlay: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/kubernetes/manifests.py");
        let output = Command::new("python3").args([script, overlay]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(serde_json::from_slice(&output.stdout).unwrap())
    }

    pub fn find(&self, kind: &str, name: &str) -> &Value {
        let found = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
        self.0.iter().find(found).unwrap_or_else(|| panic!("no {kind} {name}"))
    }
}

/// Cluster of pods on loopback addresses.
pub struct Cluster {
    /// Network 127.x.y.0/24, different in each run, so that runs at the same time do not meet.
    network: [u8; 3],
    pods: AtomicU8,
    folder: Folder,
    /// Contents of secrets, by secret and key.
    secrets: BTreeMap<(String, String), String>,
    /// Variables by program, which override the manifest's or are added to them.
    instead: BTreeMap<String, Vec<(String, String)>>,
}

impl Cluster {
    pub fn new() -> Self {
        let [x, y, ..] = uuid::Uuid::new_v4().into_bytes();
        Self {
            network: [127, 1 + x % 250, y],
            pods: AtomicU8::new(2),
            folder: Folder::new(),
            secrets: BTreeMap::new(),
            instead: BTreeMap::new(),
        }
    }

    /// Returns the address that stands for the service's name.
    pub fn name_address(&self) -> Ipv4Addr {
        self.address(1)
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, host)
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path(name)
    }

    /// Stores a secret, as a variable and as a file.
    pub fn keep(&mut self, secret: &str, key: &str, content: &str) {
        self.folder.write(&format!("{secret}.{key}"), content);
        self.secrets.insert((secret.to_owned(), key.to_owned()), content.to_owned());
    }

    /// Sets a variable of a program, whatever the manifest says.
    pub fn set(&mut self, program: &str, variable: &str, value: &str) {
        let variables = self.instead.entry(program.to_owned()).or_default();
        variables.push((variable.to_owned(), value.to_owned()));
    }

    pub fn instead(&self, program: &str) -> Vec<(String, String)> {
        self.instead.get(program).cloned().unwrap_or_default()
    }

    /// Returns the name and address of a new pod.
    pub fn next_pod(&self, workload: &Value) -> (String, Ipv4Addr) {
        let number = self.pods.fetch_add(1, Ordering::Relaxed);
        (format!("{}-{number}", program(workload)), self.address(number))
    }

    /// Returns the value of a manifest's variable in a pod.
    pub fn value(&self, workload: &Value, entry: &Value, pod: &str, address: Ipv4Addr) -> String {
        if let Some(value) = entry["value"].as_str() {
            return self.place(workload, value, address);
        }
        let source = &entry["valueFrom"];
        if source["fieldRef"]["fieldPath"] == "metadata.name" {
            return pod.to_owned();
        }
        let text = |key: &str| source["secretKeyRef"][key].as_str().unwrap_or_default().to_owned();
        let secret = self.secrets.get(&(text("name"), text("key")));
        secret.unwrap_or_else(|| panic!("nothing for {entry}")).clone()
    }

    /// Replaces addresses, mounted folders and names in a value by those of the pod.
    fn place(&self, workload: &Value, value: &str, address: Ipv4Addr) -> String {
        let none = Vec::new();
        for volume in template(workload)["volumes"].as_array().unwrap_or(&none) {
            let mounts = template(workload)["containers"][0]["volumeMounts"].as_array().unwrap();
            let mount = mounts.iter().find(|mount| mount["name"] == volume["name"]).unwrap();
            let folder = format!("{}/", mount["mountPath"].as_str().unwrap());
            if let Some(key) = value.strip_prefix(&folder) {
                let secret = volume["secret"]["secretName"].as_str().unwrap();
                let known = self.secrets.contains_key(&(secret.to_owned(), key.to_owned()));
                assert!(known, "nobody made the secret {secret} with {key}");
                return self.path(&format!("{secret}.{key}")).to_str().unwrap().to_owned();
            }
        }
        value
            .replace("0.0.0.0:", &format!("{address}:"))
            .replace("//campaign-service:", &format!("//{}:", self.name_address()))
    }
}

/// Name that leads new connections to its addresses, in turn.
#[derive(Clone)]
pub struct Name {
    known: Arc<Mutex<Vec<SocketAddr>>>,
    /// Number of the current epoch; connections of an older epoch are cut.
    epoch: watch::Sender<u64>,
}

impl Name {
    pub async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        Self::over(listener)
    }

    pub fn over(listener: TcpListener) -> Self {
        let name = Self { known: Arc::default(), epoch: watch::Sender::new(0) };
        let leading = name.clone();
        tokio::spawn(async move {
            for turn in 0_usize.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let target = {
                    let known = leading.known.lock().unwrap();
                    known.get(turn % known.len().max(1)).copied()
                };
                if let Some(target) = target {
                    tokio::spawn(pass(stream, target, leading.epoch.subscribe()));
                }
            }
        });
        name
    }

    pub fn add(&self, address: SocketAddr) {
        self.known.lock().unwrap().push(address);
    }

    /// Forgets an address after the delay with which clients learn.
    pub fn forget(&self, address: SocketAddr) {
        let known = Arc::clone(&self.known);
        tokio::spawn(async move {
            tokio::time::sleep(LEARNED_LATE).await;
            known.lock().unwrap().retain(|other| *other != address);
        });
    }

    /// Forgets all addresses and ends all connections.
    pub fn cut(&self) {
        self.known.lock().unwrap().clear();
        self.epoch.send_modify(|epoch| *epoch += 1);
    }
}

async fn pass(mut stream: TcpStream, target: SocketAddr, mut epoch: watch::Receiver<u64>) {
    let Ok(mut there) = TcpStream::connect(target).await else { return };
    let _ = (stream.set_nodelay(true), there.set_nodelay(true));
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut stream, &mut there) => {}
        _ = epoch.changed() => {}
    }
}
