//! Check that service and program know the same API. The service does not report its version, but it lists its
//! methods by reflection.

use super::finding::{Finding, Verdict, found};
use crate::connection::Connection;
use crate::failure::Failure;
use campaign_proto::v1;
use campaign_proto::v1::campaign_service_server::SERVICE_NAME as CAMPAIGN;
use campaign_proto::v1::contact_service_server::SERVICE_NAME as CONTACT;
use campaign_proto::v1::dispatch_service_server::SERVICE_NAME as DISPATCH;
use campaign_proto::v1::interaction_service_server::SERVICE_NAME as INTERACTION;
use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use std::collections::BTreeSet;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

/// Services of the API.
pub(super) const SERVICES: [&str; 4] = [CAMPAIGN, CONTACT, INTERACTION, DISPATCH];
const VERSION: &str = concat!("campaignctl ", env!("CARGO_PKG_VERSION"));

pub async fn compare(connection: &Connection) -> Finding {
    match reflected(connection).await {
        Ok(theirs) => judge(&own(), &theirs),
        Err(error) => {
            let message = format!("{VERSION}; the service does not describe itself: {error}");
            found("versions", Verdict::Warn, message, "check that this is the campaign service")
        }
    }
}

fn judge(ours: &BTreeSet<String>, theirs: &BTreeSet<String>) -> Finding {
    let missing: Vec<&str> = ours.difference(theirs).map(String::as_str).collect();
    let newer: Vec<&str> = theirs.difference(ours).map(String::as_str).collect();
    if !missing.is_empty() {
        let message = format!("{VERSION}; the service lacks {}", missing.join(", "));
        return found(
            "versions",
            Verdict::Warn,
            message,
            "use the campaignctl of the service's version",
        );
    }
    if !newer.is_empty() {
        let message = format!("{VERSION}; the service also has {}", newer.join(", "));
        return found("versions", Verdict::Warn, message, "use a newer campaignctl");
    }
    let message = format!("{VERSION}; the service has the same {} methods", ours.len());
    found("versions", Verdict::Ok, message, "")
}

/// Returns the methods that this program knows.
fn own() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(v1::FILE_DESCRIPTOR_SET).unwrap_or_default();
    methods(&set.file)
}

/// Returns the methods that the service has.
async fn reflected(connection: &Connection) -> Result<BTreeSet<String>, String> {
    let mut client = ServerReflectionClient::new(connection.calls());
    let requests = SERVICES.map(|service| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol(service.to_owned())),
    });
    let said = |status| Failure::from(status).message().to_owned();
    let answer = client.server_reflection_info(tokio_stream::iter(requests)).await.map_err(said)?;
    let mut answers = answer.into_inner();
    let mut files = Vec::new();
    while let Some(answer) = answers.message().await.map_err(said)? {
        // A missing gRPC service is answered by an error; its methods are missing then.
        if let Some(MessageResponse::FileDescriptorResponse(found)) = answer.message_response {
            for bytes in found.file_descriptor_proto {
                let file = FileDescriptorProto::decode(bytes.as_slice());
                files.push(file.map_err(|error| error.to_string())?);
            }
        }
    }
    Ok(methods(&files))
}

fn methods(files: &[FileDescriptorProto]) -> BTreeSet<String> {
    let ours = files.iter().filter(|file| file.package() == "campaign.v1");
    let services = ours.flat_map(|file| &file.service);
    services
        .flat_map(|service| {
            let methods = service.method.iter();
            methods.map(|method| format!("{}/{}", service.name(), method.name()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_one_of_them_knows_is_named() {
        let ours = own();
        assert!(ours.len() > 30 && ours.contains("CampaignService/LaunchCampaign"), "{ours:?}");
        assert_eq!(judge(&ours, &ours).verdict, Verdict::Ok);
        let mut theirs = ours.clone();
        assert!(theirs.remove("CampaignService/LaunchCampaign"));
        let older = judge(&ours, &theirs);
        assert_eq!(older.verdict, Verdict::Warn);
        assert!(
            older.message.contains("lacks CampaignService/LaunchCampaign"),
            "{}",
            older.message
        );
        let newer = judge(&theirs, &ours);
        assert_eq!(newer.verdict, Verdict::Warn);
        assert!(newer.message.contains("has CampaignService/LaunchCampaign"), "{}", newer.message);
    }
}
