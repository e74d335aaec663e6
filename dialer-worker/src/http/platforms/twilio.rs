//! Twilio: calls with TwiML, and texts. Names of the attempt travel in the callback's URL.

mod endings;
mod shown;
mod signed;
mod text;

use std::time::SystemTime;

use campaign_process::traces::TraceContext;
use form_urlencoded::Serializer;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use serde::Deserialize;

use crate::http::client::{Ask, Client, Content};
use crate::http::config::{Channel, HttpConfig};
use crate::http::events::Named;
use crate::http::flavor::needed;
use crate::http::platform::{
    Callback, Created, Found, InboundText, Manners, Means, Order, Platform, Proof, SMALL_BYTES,
    Sought, Told, Unreadable, Wish,
};
use crate::http::signature::{Refused, Secrets};
use endings::rejection;
use shown::{Resource, Shown, is_since};
use signed::Form;
use text::Template;

/// Longest call that Twilio accepts without a special account.
const MAX_TIME_LIMIT_SECONDS: u32 = 14_400;
/// Most resources that a look-up reads.
const PAGE_SIZE: &str = "50";
const EVENTS: [&str; 4] = ["initiated", "ringing", "answered", "completed"];

/// Twilio.
pub(super) struct Twilio {
    client: Client,
    /// Path of the account's resources.
    account: String,
    from: String,
    sends: Sends,
    detects_machines: bool,
    time_limit_seconds: u32,
    secrets: Secrets,
}

/// Kind of resource that an attempt creates.
enum Sends {
    /// Call, with the URL of its TwiML.
    Calls(String),
    Messages(Template),
}

#[derive(Deserialize)]
struct Rejection {
    code: Option<u16>,
}

#[derive(Deserialize)]
struct Listing {
    #[serde(alias = "calls", alias = "messages")]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Account {
    status: String,
}

impl Twilio {
    pub fn new(client: Client, config: &HttpConfig, secrets: Secrets) -> Result<Self, String> {
        let options = &config.platform;
        let need = |value, flag| needed(value, "twilio", flag).cloned();
        let account = need(options.http_account.as_ref(), "--http-account")?;
        let sends = match config.http_channel {
            Channel::Call => Sends::Calls(need(options.http_agent.as_ref(), "--http-agent")?),
            Channel::Sms => {
                let text = need(options.http_text.as_ref(), "--http-text")?;
                Sends::Messages(Template::new(text))
            }
            Channel::Email => return Err("--http-flavor twilio sends no e-mails".to_owned()),
        };
        Ok(Self {
            client,
            account: format!("/2010-04-01/Accounts/{account}"),
            from: need(options.http_from.as_ref(), "--http-from")?,
            sends,
            detects_machines: options.http_detect_machines,
            time_limit_seconds: config.http_call_limit_seconds.min(MAX_TIME_LIMIT_SECONDS),
            secrets,
        })
    }

    fn collection(&self) -> &'static str {
        match self.sends {
            Sends::Calls(_) => "Calls",
            Sends::Messages(_) => "Messages",
        }
    }

    fn form(&self, order: &Order<'_>) -> String {
        let mut form = Serializer::new(String::new());
        let callback = with_names(order.callback_url, order.named);
        form.append_pair("To", order.to);
        match &self.sends {
            Sends::Calls(twiml) => {
                form.append_pair("From", &self.from);
                form.append_pair("Url", &with_names(twiml, order.named));
                // A list in one parameter would be ignored.
                for event in EVENTS {
                    form.append_pair("StatusCallbackEvent", event);
                }
                form.append_pair("TimeLimit", &self.time_limit_seconds.to_string());
                if self.detects_machines {
                    form.append_pair("MachineDetection", "Enable");
                    form.append_pair("AsyncAmd", "true");
                    form.append_pair("AsyncAmdStatusCallback", &callback);
                }
            }
            Sends::Messages(text) => {
                let service = self.from.starts_with("MG");
                let from = if service { "MessagingServiceSid" } else { "From" };
                form.append_pair(from, &self.from);
                form.append_pair("Body", &text.fill(order.attempt));
            }
        }
        form.append_pair("StatusCallback", &callback);
        form.finish()
    }

    async fn request(&self, order: &Order<'_>, trace: &TraceContext) -> Created {
        let path = format!("{}/{}.json", self.account, self.collection());
        let ask = Ask::post(&path, Content::Form(self.form(order)));
        let answer = self.client.send(Ask { trace: Some(trace), ..ask }).await;
        let id = |body: &[u8]| serde_json::from_slice(body).ok().map(|made: Resource| made.sid);
        Created::read(answer, id, means)
    }

    async fn look_up(&self, sought: &Sought<'_>) -> Found {
        let Some(id) = sought.id else { return self.search(sought).await };
        let path = format!("{}/{}/{id}.json", self.account, self.collection());
        let Ok(answer) = self.client.send(Ask::get(&path)).await else { return Found::Unclear };
        if answer.status != StatusCode::OK {
            return Found::Unclear;
        }
        let resource = serde_json::from_slice::<Resource>(&answer.body);
        resource.map_or(Found::Unclear, |resource| self.known(&resource))
    }

    /// Searches the resource of an attempt without an id: the newest one to this number since the
    /// request. A number has one attempt at a time.
    async fn search(&self, sought: &Sought<'_>) -> Found {
        let path = self.search_path(sought.to);
        let Ok(answer) = self.client.send(Ask::get(&path)).await else { return Found::Unclear };
        let Ok(listing) = serde_json::from_slice::<Listing>(&answer.body) else {
            return Found::Unclear;
        };
        let mut since = listing.resources.iter().filter(|made| is_since(made, sought.begun_at));
        since.next().map_or(Found::Absent, |resource| self.known(resource))
    }

    fn search_path(&self, to: &str) -> String {
        let mut query = Serializer::new(String::new());
        query.append_pair("To", to);
        if !self.from.starts_with("MG") {
            query.append_pair("From", &self.from);
        }
        query.append_pair("PageSize", PAGE_SIZE);
        format!("{}/{}.json?{}", self.account, self.collection(), query.finish())
    }

    fn known(&self, resource: &Resource) -> Found {
        let whats = match self.sends {
            Sends::Calls(_) => resource.shown().of_call(),
            Sends::Messages(_) => resource.shown().of_message(),
        };
        Found::Known { id: resource.sid.clone(), whats }
    }

    async fn is_active(&self) -> bool {
        let path = format!("{}.json", self.account);
        let Ok(answer) = self.client.send(Ask::get(&path)).await else { return false };
        let account = serde_json::from_slice::<Account>(&answer.body);
        answer.status.is_success() && account.is_ok_and(|account| account.status == "active")
    }
}

impl Platform for Twilio {
    fn manners(&self) -> Manners {
        let hangs_up = matches!(self.sends, Sends::Calls(_));
        Manners {
            repeats_safely: false,
            absence_is_proof: false,
            proof: Proof::Rung,
            hangs_up,
            judges_apart: self.detects_machines,
            max_callback_bytes: SMALL_BYTES,
        }
    }

    fn create<'a>(
        &'a self,
        order: &'a Order<'a>,
        trace: &'a TraceContext,
    ) -> BoxFuture<'a, Created> {
        self.request(order, trace).boxed()
    }

    fn find<'a>(&'a self, sought: &'a Sought<'a>) -> BoxFuture<'a, Found> {
        self.look_up(sought).boxed()
    }

    fn hang_up<'a>(&'a self, id: &'a str) -> BoxFuture<'a, bool> {
        async move {
            let path = format!("{}/Calls/{id}.json", self.account);
            let content = Content::Form("Status=completed".to_owned());
            self.client.succeeds(Ask::post(&path, content)).await
        }
        .boxed()
    }

    fn is_healthy(&self) -> BoxFuture<'_, bool> {
        self.is_active().boxed()
    }

    fn check(&self, callback: &Callback<'_>, _now: SystemTime) -> Result<(), Refused> {
        signed::check(&self.secrets, callback)
    }

    fn read(&self, callback: &Callback<'_>) -> Result<Told, Unreadable> {
        let form = Form::read(callback.body);
        if form.get("SmsStatus") == "received" {
            return Ok(Told::Text(inbound(&form)));
        }
        let names = Form::read(callback.query.as_bytes());
        let named = Named::by(names.get("contact"), names.get("attempt"));
        let named = named.ok_or(Unreadable("its URL names no attempt"))?;
        let shown = Shown::of_form(&form);
        let whats =
            if form.get("MessageSid").is_empty() { shown.of_call() } else { shown.of_message() };
        Ok(Told::Events(named.events(whats)))
    }
}

/// Returns a URL with the names of an attempt in its query. Contacts and attempts have only
/// characters that no proxy rewrites.
fn with_names(url: &str, named: &Named) -> String {
    let join = if url.contains('?') { '&' } else { '?' };
    format!("{url}{join}contact={}&attempt={}", named.contact, named.attempt_id)
}

/// Reads a rejection, by Twilio's own code if there is one.
fn means(status: u16, body: &[u8]) -> (u16, Means) {
    let code = serde_json::from_slice::<Rejection>(body).ok().and_then(|told| told.code);
    let code = code.unwrap_or(status);
    (code, rejection(code))
}

fn inbound(form: &Form<'_>) -> InboundText {
    let from = form.get("From");
    let wish = match form.get("OptOutType") {
        "STOP" => Wish::Stop,
        "START" => Wish::Start,
        "" => text::wish(form.get("Body")),
        _ => Wish::None,
    };
    InboundText {
        from: from.split_once(':').map_or(from, |(_, number)| number).to_owned(),
        id: form.get("MessageSid").to_owned(),
        wish,
    }
}
