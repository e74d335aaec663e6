//! Messages, clients and servers generated from `campaign/v1/*.proto`.

/// Package `campaign.v1`.
pub mod v1 {
    #![allow(
        clippy::all,
        clippy::pedantic,
        missing_docs,
        clippy::allow_attributes_without_reason,
        unused_qualifications,
        reason = "generated code; its comments are those of the .proto files"
    )]
    tonic::include_proto!("campaign.v1");

    /// Encoded `FileDescriptorSet` of the package and all it imports, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
