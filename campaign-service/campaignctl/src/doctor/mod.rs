//! Checks of everything between a person and a running campaign. Each prints a line, with what to do next.

mod finding;
mod versions;

use crate::args::Global;
use crate::connection::{self, CONNECT_TIMEOUT, Connection};
use crate::failure::{Exit, Failure};
use crate::printing::Printer;
use crate::profile::Setup;
use crate::text::{Format, clean};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use campaign_process::client::{is_https, is_in_the_clear, read_token};
use campaign_proto::v1;
use chrono::{DateTime, Utc};
use finding::{Finding, Verdict, found};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use versions::SERVICES;

/// Least remaining time of a token without a warning.
const TOKEN_MARGIN_SECONDS: f64 = 600.0;
/// Largest difference of clocks without a warning. A larger one makes logs and tokens hard to read.
const CLOCK_MARGIN_SECONDS: f64 = 5.0;

pub async fn run(printer: &Printer, global: &Global) -> Result<(), Failure> {
    let findings = findings(global).await;
    let failed = findings.iter().filter(|one| one.verdict == Verdict::Fail).count();
    match printer.format {
        Format::Json => {
            let list: Vec<Value> = findings.iter().map(to_json).collect();
            printer.text(&json!({ "checks": list }).to_string())?;
        }
        Format::Human => {
            for finding in &findings {
                printer.text(&line(finding))?;
            }
        }
    }
    match failed {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Failed, "1 check failed")),
        count => Err(Failure::new(Exit::Failed, format!("{count} checks failed"))),
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
        Verdict::Skip => "skip",
    }
}

fn line(finding: &Finding) -> String {
    let Finding { check, verdict, message, next } = finding;
    let next = if next.is_empty() { String::new() } else { format!("; next: {next}") };
    format!("{:4}  {check}: {}{next}", word(*verdict), clean(message))
}

fn to_json(finding: &Finding) -> Value {
    let Finding { check, verdict, message, next } = finding;
    json!({ "check": check, "status": word(*verdict), "message": message, "next": next })
}

/// Runs all checks. A check that depends on a failed one is left out.
async fn findings(global: &Global) -> Vec<Finding> {
    let setup = match Setup::read(global) {
        Ok(setup) => setup,
        Err(failure) => {
            let next = "correct the profiles file, the profile's name or the flag";
            return vec![found("configuration", Verdict::Fail, failure.message(), next)];
        }
    };
    let message = format!("{}, {}", setup.url, setup.origin);
    let mut findings = vec![found("configuration", Verdict::Ok, message, "")];
    findings.push(token(&setup));
    let endpoint = match connection::endpoint(&setup) {
        Ok(endpoint) => endpoint,
        Err(failure) => {
            let next = "check service_url and the certificate files";
            findings.push(found("configuration", Verdict::Fail, failure.message(), next));
            return findings;
        }
    };
    let reached = reach(endpoint.uri()).await;
    let is_reached = reached.verdict == Verdict::Ok;
    findings.push(reached);
    if !is_reached {
        return findings;
    }
    let connection = match Connection::open(&setup).await {
        Ok(connection) => connection,
        Err(failure) => {
            let next = if is_https(&endpoint) {
                "check that the service speaks TLS, that ca_file issued its certificate, and that it names the host"
            } else {
                "if the service speaks TLS, begin the address with https"
            };
            findings.push(found("tls", Verdict::Fail, failure.message(), next));
            return findings;
        }
    };
    findings.push(tls(&setup, endpoint.uri()));
    findings.extend(health(&connection).await);
    let (campaigns, answered) = ask(&connection).await;
    findings.push(answered);
    findings.push(clock(&connection, &campaigns).await);
    findings.push(versions::compare(&connection).await);
    findings
}

/// Checks the token's claims. Only the service can tell whether the token is valid.
fn token(setup: &Setup) -> Finding {
    let Some(path) = &setup.token_file else {
        return found("token", Verdict::Ok, "none is sent", "");
    };
    let text = match read_token(path) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("the token file {error}");
            return found("token", Verdict::Fail, message, "correct token_file");
        }
    };
    let claims = text
        .split('.')
        .nth(1)
        .and_then(|part| URL_SAFE_NO_PAD.decode(part).ok())
        .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let Some(claims) = claims else {
        let message = format!("{} holds no JSON Web Token", path.display());
        return found("token", Verdict::Fail, message, "put only the token into the file");
    };
    let roles = claims["roles"]
        .as_array()
        .map_or_else(Vec::new, |roles| roles.iter().filter_map(Value::as_str).collect());
    let who = claims["sub"].as_str().unwrap_or("nobody");
    let tenant =
        claims["tenant"].as_str().map(|tenant| format!(" of {tenant}")).unwrap_or_default();
    let who = format!("{who}{tenant}, roles: {}", roles.join(", "));
    let Some(left) = claims["exp"].as_f64().map(|exp| exp - seconds(Utc::now())) else {
        return found("token", Verdict::Fail, format!("{who}; it has no exp"), "get another token");
    };
    let minutes = left / 60.0;
    if left <= 0.0 {
        let message = format!("{who}; it expired {:.0} minutes ago", -minutes);
        return found("token", Verdict::Fail, message, "get a new token");
    }
    let message = format!("{who}; it expires in {minutes:.0} minutes");
    if left < TOKEN_MARGIN_SECONDS {
        return found("token", Verdict::Warn, message, "get a new token soon");
    }
    found("token", Verdict::Ok, message, "")
}

fn seconds(time: DateTime<Utc>) -> f64 {
    let micros = time.timestamp_micros();
    Duration::from_micros(micros.unsigned_abs()).as_secs_f64()
}

async fn reach(uri: &http::Uri) -> Finding {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let port = uri.port_u16().unwrap_or(default);
    let next = "check that the service runs there, and that no firewall blocks you";
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => found("network", Verdict::Ok, format!("{host}:{port} is reachable"), ""),
        Ok(Err(error)) => found("network", Verdict::Fail, format!("{host}:{port}: {error}"), next),
        Err(_) => {
            let message = format!("{host}:{port}: no answer in {} s", CONNECT_TIMEOUT.as_secs());
            found("network", Verdict::Fail, message, next)
        }
    }
}

fn tls(setup: &Setup, uri: &http::Uri) -> Finding {
    if uri.scheme_str() == Some("https") {
        let by = setup
            .ca_file
            .as_ref()
            .map_or("the system's authorities".to_owned(), |file| file.display().to_string());
        return found("tls", Verdict::Ok, format!("the certificate is valid, by {by}"), "");
    }
    if !is_in_the_clear(uri) {
        return found("tls", Verdict::Ok, "none, on this machine", "");
    }
    let message = "none: phone numbers and the token travel in the clear";
    found("tls", Verdict::Warn, message, "use an https address")
}

/// Checks the health of every service, which depends on the database.
async fn health(connection: &Connection) -> Vec<Finding> {
    let mut client = HealthClient::new(connection.calls());
    let mut findings = Vec::new();
    for service in SERVICES {
        let request = HealthCheckRequest { service: service.to_owned() };
        findings.push(match client.check(request).await {
            Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => {
                found("health", Verdict::Ok, format!("{service} serves"), "")
            }
            Ok(_) => {
                let message = format!("{service} does not serve: its database is unavailable");
                found("health", Verdict::Fail, message, "check PostgreSQL and the service's log")
            }
            Err(status) => {
                let message = format!("{service}: {}", Failure::from(status).message());
                found("health", Verdict::Fail, message, "check that this is the campaign service")
            }
        });
    }
    findings
}

/// Checks that the service accepts the token. Returns campaigns for further checks.
async fn ask(connection: &Connection) -> (Vec<v1::Campaign>, Finding) {
    let request = v1::ListCampaignsRequest { page_size: 50, ..Default::default() };
    match connection.campaigns().list_campaigns(request).await {
        Ok(answer) => (
            answer.into_inner().campaigns,
            found("access", Verdict::Ok, "campaigns can be listed", ""),
        ),
        Err(status) => {
            let next = match status.code() {
                Code::Unauthenticated => "give a valid token: token_file in the profile",
                Code::PermissionDenied => "use a token with the role viewer, operator or admin",
                _ => "check the service's log",
            };
            let message = Failure::from(status).message().to_owned();
            (Vec::new(), found("access", Verdict::Fail, message, next))
        }
    }
}

/// Checks the service's clock. The service reports its time only with counts, so one small campaign is counted.
async fn clock(connection: &Connection, campaigns: &[v1::Campaign]) -> Finding {
    let Some(campaign) = campaigns.iter().min_by_key(|one| one.contact_count) else {
        let message = "the service reports its time only with counts, and there is no campaign";
        return found("clock", Verdict::Skip, message, "");
    };
    let before = Utc::now();
    let progress = crate::names::progress(connection, &campaign.name).await;
    let after = Utc::now();
    let read = progress.ok().and_then(|progress| progress.read_time).and_then(|time| {
        DateTime::from_timestamp(time.seconds, time.nanos.try_into().unwrap_or(0))
    });
    let Some(read) = read else {
        return found("clock", Verdict::Skip, "the service did not report its time", "");
    };
    difference(before, read, after)
}

/// Compares this machine's clock with the service's, which was read between `before` and `after`.
fn difference(before: DateTime<Utc>, read: DateTime<Utc>, after: DateTime<Utc>) -> Finding {
    let (early, late) = (seconds(before) - seconds(read), seconds(read) - seconds(after));
    let off = early.max(late).max(0.0);
    let message =
        format!("this machine and the service's database differ by about {off:.1} s at least");
    if off > CLOCK_MARGIN_SECONDS {
        return found("clock", Verdict::Warn, message, "set both clocks by NTP");
    }
    found("clock", Verdict::Ok, message, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn clocks_that_differ_are_worth_a_warning_and_a_slow_answer_is_not() {
        let before = Utc::now();
        let after = before + TimeDelta::seconds(20);
        for (read_after_seconds, expected) in [
            (-6, Verdict::Warn),
            (-4, Verdict::Ok),
            (10, Verdict::Ok),
            (24, Verdict::Ok),
            (26, Verdict::Warn),
        ] {
            let read = before + TimeDelta::seconds(read_after_seconds);
            let verdict = difference(before, read, after).verdict;
            assert_eq!(verdict, expected, "{read_after_seconds}");
        }
    }

    #[test]
    fn a_way_that_others_can_read_is_worth_a_warning() {
        let setup = Setup {
            url: String::new(),
            ca_file: None,
            identity: None,
            token_file: None,
            actor: String::new(),
            timeout: Duration::ZERO,
            origin: String::new(),
        };
        for (url, expected) in [
            ("http://campaigns.example.com:50051", Verdict::Warn),
            ("http://127.0.0.1:50051", Verdict::Ok),
            ("https://campaigns.example.com:50051", Verdict::Ok),
        ] {
            assert_eq!(tls(&setup, &url.parse().expect("a URL")).verdict, expected, "{url}");
        }
    }
}
