//! OpenTelemetry collector that keeps the spans it receives.

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// IDs of a trace and of a span.
pub type Place = (Vec<u8>, Vec<u8>);

/// Span, with the program that sent it.
#[derive(Clone, Debug)]
pub struct Told {
    pub program: String,
    pub span: Span,
}

impl Told {
    pub fn place(&self) -> Place {
        (self.span.trace_id.clone(), self.span.span_id.clone())
    }

    /// Returns the causes of the span: its parent, and the spans that it links to.
    pub fn causes(&self) -> Vec<Place> {
        let links =
            self.span.links.iter().map(|link| (link.trace_id.clone(), link.span_id.clone()));
        self.parent().into_iter().chain(links).collect()
    }

    pub fn parent(&self) -> Option<Place> {
        let parent = &self.span.parent_span_id;
        (!parent.is_empty()).then(|| (self.span.trace_id.clone(), parent.clone()))
    }

    pub fn attributes(&self) -> BTreeMap<String, String> {
        attributes(&self.span.attributes)
    }
}

fn attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.clone().and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{}: {other:?}", attribute.key),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
}

/// Collector that ends with the test.
#[derive(Clone, Debug, Default)]
pub struct Collector(Arc<Mutex<Vec<Told>>>);

impl Collector {
    /// Listens for spans. Returns the collector and its address.
    pub async fn start() -> (Self, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self::default();
        let server = Server::builder().add_service(TraceServiceServer::new(collector.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        (collector, url)
    }

    /// Returns all spans so far.
    pub fn told(&self) -> Vec<Told> {
        self.0.lock().unwrap().clone()
    }

    /// Returns the spans with this name so far.
    pub fn named(&self, name: &str) -> Vec<Told> {
        self.told().into_iter().filter(|told| told.span.name == name).collect()
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut told = self.0.lock().unwrap();
        for of_program in request.into_inner().resource_spans {
            let resource = attributes(&of_program.resource.unwrap_or_default().attributes);
            let program = resource.get("service.name").cloned().unwrap_or_default();
            let spans = of_program.scope_spans.into_iter().flat_map(|scope| scope.spans);
            told.extend(spans.map(|span| Told { program: program.clone(), span }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
