//! Methods of the API: one table of who may call each, its kind, and its longest message.
//!
//! Access, limits, reading and metrics all read this table.

use campaign_domain::access::Role;

/// Rule for the callers of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Permits everyone, also without a token.
    Open,
    /// Permits every caller with a token.
    Known,
    /// Permits callers with one of these roles.
    Roles(&'static [Role]),
}

/// Kind of a method, which decides its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Stream,
    /// Health and reflection, which are called most under overload.
    Exempt,
}

/// Method of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// Path of its requests, as in `/campaign.v1.CampaignService/GetCampaign`.
    pub path: &'static str,
    pub rule: Rule,
    pub kind: Kind,
    /// Whether a request may last as long as a stream.
    pub is_stream: bool,
    /// Longest message that it takes, in bytes.
    pub max_message_bytes: usize,
}

/// Longest message of most methods, in bytes.
const MESSAGE_BYTES: usize = 64 * 1024;
/// Longest message of methods that take many long items at once, in bytes.
const BULK_BYTES: usize = 16 * 1024 * 1024;
/// Longest list of numbers, in bytes.
const NUMBERS_BYTES: usize = 512 * 1024;
/// Longest message of health and reflection, in bytes. Health needs no token.
const QUESTION_BYTES: usize = 512;

const READ: Rule = Rule::Roles(&[Role::Viewer, Role::Operator, Role::Admin]);
const OPERATE: Rule = Rule::Roles(&[Role::Operator, Role::Admin]);
const ADMINISTER: Rule = Rule::Roles(&[Role::Admin]);
const DISPATCH: Rule = Rule::Roles(&[Role::Worker, Role::Admin]);
/// Rule for reports. A worker also reports people who call in. Its stream permits the same reports.
const REPORT: Rule = Rule::Roles(&[Role::Reporter, Role::Worker, Role::Admin]);

/// All methods. A method that is not here is rejected.
pub const METHODS: &[Method] = &[
    request("/campaign.v1.CampaignService/CreateCampaign", OPERATE),
    request("/campaign.v1.CampaignService/GetCampaign", READ),
    request("/campaign.v1.CampaignService/ListCampaigns", READ),
    request("/campaign.v1.CampaignService/UpdateCampaign", OPERATE),
    request("/campaign.v1.CampaignService/DeleteCampaign", OPERATE),
    request("/campaign.v1.CampaignService/PreviewLaunch", READ),
    // `Caller::may_launch` requires more for some settings.
    request("/campaign.v1.CampaignService/LaunchCampaign", OPERATE),
    request("/campaign.v1.CampaignService/PauseCampaign", OPERATE),
    request("/campaign.v1.CampaignService/ResumeCampaign", OPERATE),
    request("/campaign.v1.CampaignService/CancelCampaign", OPERATE),
    request("/campaign.v1.CampaignService/GetCampaignProgress", READ),
    stream("/campaign.v1.CampaignService/WatchCampaign", READ),
    request("/campaign.v1.CampaignService/ListRuns", READ),
    request("/campaign.v1.CampaignService/ListAuditEvents", READ),
    stream("/campaign.v1.ContactService/ImportContacts", OPERATE).of_at_most(BULK_BYTES),
    request("/campaign.v1.ContactService/GetImport", READ),
    request("/campaign.v1.ContactService/CreateContact", OPERATE),
    request("/campaign.v1.ContactService/GetContact", READ),
    request("/campaign.v1.ContactService/ListContacts", READ),
    request("/campaign.v1.ContactService/UpdateContact", OPERATE),
    request("/campaign.v1.ContactService/DeleteContact", OPERATE),
    request("/campaign.v1.ContactService/GetContactHistory", READ),
    request("/campaign.v1.ContactService/ExplainContact", READ),
    request("/campaign.v1.ContactService/AddSuppressions", OPERATE).of_at_most(NUMBERS_BYTES),
    request("/campaign.v1.ContactService/RemoveSuppression", OPERATE),
    request("/campaign.v1.ContactService/GetSuppression", READ),
    request("/campaign.v1.ContactService/ListSuppressions", READ),
    request("/campaign.v1.ContactService/ErasePerson", ADMINISTER),
    request("/campaign.v1.InteractionService/RecordInteractions", REPORT).of_at_most(BULK_BYTES),
    request("/campaign.v1.InteractionService/RouteInbound", REPORT),
    stream(DISPATCH_PATH, DISPATCH).of_at_most(BULK_BYTES),
    exempt("/grpc.health.v1.Health/Check", Rule::Open, false),
    exempt("/grpc.health.v1.Health/Watch", Rule::Open, true),
    exempt("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Rule::Known, true),
    exempt("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Rule::Known, true),
];

/// Path of the workers' streams, whose messages are read one by one.
pub const DISPATCH_PATH: &str = "/campaign.v1.DispatchService/Dispatch";

/// Stands for every path that is not in the table, so that metrics have a bounded number of labels. The limits of
/// requests hold for it.
const OTHER: Method = request("/other/other", Rule::Known);

const fn request(path: &'static str, rule: Rule) -> Method {
    let (kind, max_message_bytes) = (Kind::Request, MESSAGE_BYTES);
    Method { path, rule, kind, is_stream: false, max_message_bytes }
}

const fn stream(path: &'static str, rule: Rule) -> Method {
    let (kind, max_message_bytes) = (Kind::Stream, MESSAGE_BYTES);
    Method { path, rule, kind, is_stream: true, max_message_bytes }
}

const fn exempt(path: &'static str, rule: Rule, is_stream: bool) -> Method {
    let (kind, max_message_bytes) = (Kind::Exempt, QUESTION_BYTES);
    Method { path, rule, kind, is_stream, max_message_bytes }
}

impl Method {
    const fn of_at_most(self, max_message_bytes: usize) -> Self {
        Self { max_message_bytes, ..self }
    }

    /// Returns the method with this path, if the table has it.
    #[must_use]
    pub fn find(path: &str) -> Option<&'static Self> {
        METHODS.iter().find(|method| method.path == path)
    }

    /// Returns the method with this path; for an unknown one, a stand-in.
    #[must_use]
    pub fn at(path: &str) -> &'static Self {
        Self::find(path).unwrap_or(&OTHER)
    }

    /// Returns service and name, separated by a slash.
    #[must_use]
    pub fn full_name(&self) -> &'static str {
        self.path.strip_prefix('/').unwrap_or(self.path)
    }

    /// Returns the service and the name.
    #[must_use]
    pub fn names(&self) -> (&'static str, &'static str) {
        self.full_name().split_once('/').unwrap_or((self.path, ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use prost_types::FileDescriptorSet;
    use std::collections::BTreeMap;

    /// Returns all methods that the server has, and whether each is a stream.
    fn served() -> BTreeMap<String, bool> {
        let sets = [
            campaign_proto::v1::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut served = BTreeMap::new();
        for set in sets {
            for file in FileDescriptorSet::decode(set).expect("descriptors").file {
                for service in &file.service {
                    for method in &service.method {
                        let (package, service) = (file.package(), service.name());
                        let path = format!("/{package}.{service}/{}", method.name());
                        let is_stream = method.client_streaming() || method.server_streaming();
                        served.insert(path, is_stream);
                    }
                }
            }
        }
        served
    }

    #[test]
    fn every_method_is_in_the_table_once_and_no_other() {
        let table: Vec<&str> = METHODS.iter().map(|method| method.path).collect();
        let mut sorted = table.clone();
        sorted.sort_unstable();
        let served: Vec<String> = served().into_keys().collect();
        assert!(served.len() > 30, "{served:?}");
        assert_eq!(sorted, served);
    }

    #[test]
    fn streams_are_streams() {
        for (path, is_stream) in served() {
            let method = Method::at(&path);
            assert_eq!(method.is_stream, is_stream, "{path}");
            let is_ours = path.starts_with("/campaign.v1.");
            let expected = match (is_ours, is_stream) {
                (false, _) => Kind::Exempt,
                (true, true) => Kind::Stream,
                (true, false) => Kind::Request,
            };
            assert_eq!(method.kind, expected, "{path}");
        }
        assert_eq!(Method::at("/campaign.v1.CampaignService/Nothing").names(), ("other", "other"));
    }
}
