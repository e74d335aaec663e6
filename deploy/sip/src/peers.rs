//! Programs of others: kamailio as a proxy that wants a password, baresip as an agent with a voice, dnsmasq for names.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use campaign_testkit::{Program, free_port};
use tokio::time::{Instant, sleep};

/// Longest wait for a peer to listen.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Running peer; killed when dropped, and its folder removed.
#[derive(Debug)]
struct Peer {
    program: Program,
    folder: PathBuf,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.program.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// kamailio that relays calls to a trunk after it has seen a password.
#[derive(Debug)]
pub struct Kamailio {
    peer: Peer,
    port: u16,
    secure_port: u16,
}

/// Certificate and key files, in PEM.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Certificate.
    pub certificate: &'a Path,
    /// Key.
    pub key: &'a Path,
}

impl Kamailio {
    /// Starts a proxy for user 4711 with the password "open sesame". `algorithm` is that of its challenges, and it
    /// relays to `trunk`, `HOST:PORT`. With an identity it takes TLS too.
    ///
    /// # Errors
    /// When kamailio is missing or does not start; the text says what to do.
    pub async fn start(
        algorithm: &str,
        trunk: &str,
        identity: Option<Identity<'_>>,
    ) -> Result<Self, String> {
        let (port, secure_port) = (free_port(), free_port());
        let mut text = include_str!("../peers/kamailio.cfg")
            .replace("@PORT@", &port.to_string())
            .replace("@ALGORITHM@", algorithm)
            .replace("@TRUNK@", trunk)
            .replace("@MODULES@", &modules()?);
        if let Some(Identity { certificate, key }) = identity {
            text = text
                .replace("#TLS# ", "")
                .replace("@SECURE_PORT@", &secure_port.to_string())
                .replace("@CERTIFICATE@", &certificate.display().to_string())
                .replace("@KEY@", &key.display().to_string());
        }
        let folder = folder("kamailio")?;
        let file = folder.join("kamailio.cfg");
        std::fs::write(&file, text).map_err(|error| error.to_string())?;
        let mut kamailio = Command::new("kamailio");
        kamailio
            .env("PATH", path())
            .args(["-DD", "-E", "-m", "32", "-M", "4", "-w"])
            .arg(&folder)
            .arg("-Y")
            .arg(&folder)
            .arg("-f")
            .arg(&file);
        let peer = start(&mut kamailio, folder, "kamailio kamailio-tls-modules")?;
        let mut kamailio = Self { peer, port, secure_port };
        kamailio.peer.until_bound(port).await?;
        Ok(kamailio)
    }

    /// Returns the address for calls.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the address for calls over TLS. The certificate must be of "localhost".
    #[must_use]
    pub fn secure_address(&self) -> String {
        format!("localhost:{}", self.secure_port)
    }

    /// Returns kamailio's own log.
    #[must_use]
    pub fn log(&self) -> String {
        self.peer.log()
    }
}

/// baresip that answers each call of a user and plays a tone.
#[derive(Debug)]
pub struct Baresip {
    peer: Peer,
    port: u16,
}

impl Baresip {
    /// Starts a phone of a user.
    ///
    /// # Errors
    /// When baresip is missing or does not start; the text says what to do.
    pub async fn start(user: &str) -> Result<Self, String> {
        let (port, rtp) = (free_port(), free_port());
        let folder = folder("baresip")?;
        let write = |name: &str, text: String| {
            std::fs::write(folder.join(name), text).map_err(|error| error.to_string())
        };
        let config = include_str!("../peers/baresip.config")
            .replace("@PORT@", &port.to_string())
            .replace("@RTP@", &rtp.to_string())
            .replace("@RTP_LAST@", &(rtp + 20).to_string())
            .replace("@TONE@", &folder.join("tone.wav").display().to_string());
        std::fs::write(folder.join("tone.wav"), tone()).map_err(|error| error.to_string())?;
        write("config", config)?;
        write("accounts", format!("<sip:{user}@127.0.0.1>;regint=0;answermode=auto\n"))?;
        write("contacts", String::new())?;
        let mut baresip = Command::new("baresip");
        baresip.arg("-f").arg(&folder);
        let peer = start(&mut baresip, folder, "baresip-core")?;
        let mut baresip = Self { peer, port };
        baresip.peer.until_bound(port).await?;
        Ok(baresip)
    }

    /// Returns host and port.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the audio packets that baresip sent and received, one pair for each call that is over.
    #[must_use]
    pub fn audio_packets(&self) -> Vec<(u64, u64)> {
        let log = self.peer.log();
        let number = |line: &str, name: &str| {
            let value = line.split(';').find_map(|part| part.trim().strip_prefix(name))?;
            value.split(',').next()?.parse::<u64>().ok()
        };
        // The line reads `EX=BareSip;CS=0;CD=3;PR=150;PS=151;PL=0,0;...`.
        let calls = log.lines().filter(|line| line.contains("PS=") && line.contains("PR="));
        calls.filter_map(|line| Some((number(line, "PS=")?, number(line, "PR=")?))).collect()
    }

    /// Returns what baresip printed.
    #[must_use]
    pub fn log(&self) -> String {
        self.peer.log()
    }
}

/// dnsmasq, which names the servers of a domain.
#[derive(Debug)]
pub struct Dnsmasq {
    _peer: Peer,
    port: u16,
}

impl Dnsmasq {
    /// Starts a DNS server. `trunk.example` has these servers for SIP over UDP, each with its port and priority.
    ///
    /// # Errors
    /// When dnsmasq is missing or does not start; the text says what to do.
    pub async fn start(servers: &[(u16, u16)]) -> Result<Self, String> {
        let port = free_port();
        let folder = folder("dnsmasq")?;
        let mut dnsmasq = Command::new("dnsmasq");
        dnsmasq.env("PATH", path()).args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--listen-address=127.0.0.1",
            "--bind-interfaces",
            "--pid-file=",
            "--user=",
            "--address=/one.example/127.0.0.1",
        ]);
        dnsmasq.arg(format!("--port={port}"));
        for (server, priority) in servers {
            let server = format!("_sip._udp.trunk.example,one.example,{server},{priority},1");
            dnsmasq.arg(format!("--srv-host={server}"));
        }
        let mut peer = start(&mut dnsmasq, folder, "dnsmasq-base")?;
        peer.until_bound(port).await?;
        Ok(Self { _peer: peer, port })
    }

    /// Returns the address for questions.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Peer {
    /// Waits until the peer has bound a UDP port.
    async fn until_bound(&mut self, port: u16) -> Result<(), String> {
        let bound = format!(": 0100007F:{port:04X} 00000000:0000 ");
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let table =
                std::fs::read_to_string("/proc/net/udp").map_err(|error| error.to_string())?;
            if table.contains(&bound) {
                return Ok(());
            }
            let ended = self.program.ended().map_err(|error| error.to_string())?;
            if ended.is_some() || Instant::now() > deadline {
                return Err(format!("a SIP peer did not start: {}", self.log().trim()));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

fn start(command: &mut Command, folder: PathBuf, packages: &str) -> Result<Peer, String> {
    let log = std::fs::File::create(folder.join("log")).map_err(|error| error.to_string())?;
    let errors = log.try_clone().map_err(|error| error.to_string())?;
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    let name = command.get_program().to_string_lossy().into_owned();
    let program = Program::start(command).map_err(|error| {
        format!("{name} does not start ({error}): install it (apt-get install {packages})")
    })?;
    Ok(Peer { program, folder })
}

fn folder(name: &str) -> Result<PathBuf, String> {
    let folder = std::env::temp_dir().join(format!("{name}-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// Returns ten seconds of a tone of 500 Hz as a WAV file: 8,000 samples a second of 16 bits, one channel.
fn tone() -> Vec<u8> {
    const RATE: u32 = 8_000;
    const SAMPLES: u32 = 10 * RATE;
    let mut file = Vec::new();
    let mut number = |bytes: &[u8]| file.extend_from_slice(bytes);
    number(b"RIFF");
    number(&(36 + 2 * SAMPLES).to_le_bytes());
    number(b"WAVEfmt ");
    number(&16_u32.to_le_bytes());
    number(&1_u16.to_le_bytes());
    number(&1_u16.to_le_bytes());
    number(&RATE.to_le_bytes());
    number(&(2 * RATE).to_le_bytes());
    number(&2_u16.to_le_bytes());
    number(&16_u16.to_le_bytes());
    number(b"data");
    number(&(2 * SAMPLES).to_le_bytes());
    for sample in 0..SAMPLES {
        // A square wave: eight samples up, eight down.
        let level: i16 = if sample % 16 < 8 { 8_000 } else { -8_000 };
        number(&level.to_le_bytes());
    }
    file
}

/// Returns the search path, with the folder where Debian puts servers.
fn path() -> String {
    format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Returns the folder of kamailio's modules, which depends on the architecture.
fn modules() -> Result<String, String> {
    let folders = std::fs::read_dir("/usr/lib").map_err(|error| error.to_string())?;
    let modules = folders
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("kamailio/modules"))
        .find(|folder| folder.is_dir());
    modules.map(|folder| folder.display().to_string()).ok_or_else(|| {
        "kamailio is missing: apt-get install kamailio kamailio-tls-modules".to_owned()
    })
}
