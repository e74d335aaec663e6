//! Client that calls the service with JSON, as grpcurl does.

use crate::codec::DynamicCodec;
use crate::lines::{Line, Transcript};
use crate::result::Result;
use campaign_proto::v1::FILE_DESCRIPTOR_SET;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use tokio::process::Command;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;

/// Client of the service at an address.
#[derive(Clone, Debug)]
pub struct Api {
    pub address: String,
    pool: DescriptorPool,
    channel: Channel,
    grpcurl: Option<PathBuf>,
    pub transcript: Arc<Transcript>,
}

impl Api {
    pub async fn connect(
        address: &str,
        grpcurl: Option<PathBuf>,
        transcript: Transcript,
    ) -> Result<Self> {
        let channel = Channel::from_shared(format!("http://{address}"))?.connect().await?;
        let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET)?;
        let (address, transcript) = (address.to_owned(), Arc::new(transcript));
        Ok(Self { address, pool, channel, grpcurl, transcript })
    }

    /// Prints a step's grpcurl line, and does the step.
    pub async fn step(&self, method: &str, request: &Value) -> Result<Value> {
        let line = self.transcript.command(&self.line(method, &request.to_string(), None))?;
        let answer = match &self.grpcurl {
            None => self.call(method, request).await?,
            Some(grpcurl) => run(grpcurl, &line).await?,
        };
        self.transcript.answer(&answer)?;
        Ok(answer)
    }

    /// Prints the line of an import, and does the import. The rows go through standard input.
    pub async fn import(&self, method: &str, messages: &[Value], file: PathBuf) -> Result<Value> {
        let text: String = messages.iter().map(|message| format!("{message}\n")).collect();
        std::fs::write(&file, text)?;
        let line = self.transcript.command(&self.line(method, "@", Some(file)))?;
        let answer = match &self.grpcurl {
            None => self.stream(method, messages).await?,
            Some(grpcurl) => run(grpcurl, &line).await?,
        };
        self.transcript.answer(&answer)?;
        Ok(answer)
    }

    /// Calls a method that takes a stream of messages.
    async fn stream(&self, method: &str, messages: &[Value]) -> Result<Value> {
        let method = self.method(method)?;
        let messages = messages
            .iter()
            .map(|message| read(method.input(), message))
            .collect::<Result<Vec<_>>>()?;
        let (mut grpc, path, codec) = self.open(&method).await?;
        let request = tonic::Request::new(tokio_stream::iter(messages));
        let response = grpc.client_streaming(request, path, codec).await?;
        Ok(serde_json::to_value(response.into_inner())?)
    }

    /// Calls a method without printing.
    pub async fn call(&self, method: &str, request: &Value) -> Result<Value> {
        let method = self.method(method)?;
        let message = read(method.input(), request)?;
        let (mut grpc, path, codec) = self.open(&method).await?;
        let response = grpc.unary(tonic::Request::new(message), path, codec).await?;
        Ok(serde_json::to_value(response.into_inner())?)
    }

    fn line(&self, method: &str, data: &str, input: Option<PathBuf>) -> Line {
        let (address, method) = (self.address.clone(), method.to_owned());
        Line { data: data.to_owned(), address, method, input }
    }

    /// Finds `package.Service/Method`.
    fn method(&self, name: &str) -> Result<MethodDescriptor> {
        let (service, method) = name.split_once('/').ok_or("a method is Service/Method")?;
        let service = self.pool.get_service_by_name(service).ok_or("no such service")?;
        let found = service.methods().find(|found| found.name() == method);
        found.ok_or_else(|| format!("no method {name}").into())
    }

    async fn open(
        &self,
        method: &MethodDescriptor,
    ) -> Result<(Grpc<Channel>, PathAndQuery, DynamicCodec)> {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await?;
        Ok((grpc, path.parse()?, DynamicCodec { response: method.output() }))
    }
}

/// Runs a line in a shell that knows `grpcurl`. Returns the answer.
async fn run(grpcurl: &Path, line: &str) -> Result<Value> {
    let script = format!("alias grpcurl='{}'\n{line}", grpcurl.display());
    let mut shell = Command::new("sh");
    let output = shell.args(["-c", &script]).stderr(Stdio::inherit()).output().await?;
    if !output.status.success() {
        return Err(format!("this line failed: {line}").into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn read(descriptor: MessageDescriptor, json: &Value) -> Result<DynamicMessage> {
    Ok(DynamicMessage::deserialize(descriptor, json)?)
}

/// Returns a number in an answer. 64-bit numbers are text in JSON, and zeros are left out.
#[must_use]
pub fn number(value: &Value) -> i64 {
    match value {
        Value::Number(number) => number.as_i64().unwrap_or(0),
        Value::String(text) => text.parse().unwrap_or(0),
        _ => 0,
    }
}

/// Returns a text in an answer; empty when left out.
#[must_use]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
