//! Messages as proto3 JSON, with the names of the API.

use crate::failure::{Exit, Failure};
use crate::show::Show;
use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor};
use serde_json::Value;

/// Largest JSON input.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

pub fn pool() -> Result<DescriptorPool, Failure> {
    DescriptorPool::decode(campaign_proto::v1::FILE_DESCRIPTOR_SET).map_err(internal)
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("the API's description is wrong: {error}"))
}

fn descriptor(pool: &DescriptorPool, name: &str) -> Result<MessageDescriptor, Failure> {
    let found = pool.get_message_by_name(&format!("campaign.v1.{name}"));
    found.ok_or_else(|| internal(format!("no message {name}")))
}

fn dynamic<M: Show>(pool: &DescriptorPool, message: &M) -> Result<DynamicMessage, Failure> {
    let bytes = message.encode_to_vec();
    DynamicMessage::decode(descriptor(pool, M::NAME)?, bytes.as_slice()).map_err(internal)
}

pub fn pretty<M: Show>(pool: &DescriptorPool, message: &M) -> Result<String, Failure> {
    serde_json::to_string_pretty(&dynamic(pool, message)?).map_err(internal)
}

pub fn line<M: Show>(pool: &DescriptorPool, message: &M) -> Result<String, Failure> {
    serde_json::to_string(&dynamic(pool, message)?).map_err(internal)
}

/// Reads a message from JSON. Rejects unknown fields by name.
pub fn read<M: Message + Default>(
    pool: &DescriptorPool,
    name: &str,
    value: &Value,
) -> Result<M, Failure> {
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("not a {name}: {error}"));
    let message =
        DynamicMessage::deserialize_with_options(descriptor(pool, name)?, value, &options)
            .map_err(|error| wrong(&error))?;
    message.transcode_to().map_err(|error| wrong(&error))
}

/// Returns the JSON of a file, or of standard input for `-`.
pub fn file(path: &str) -> Result<Value, Failure> {
    let wrong =
        |error: &dyn std::fmt::Display| Failure::usage(format!("{path} cannot be read: {error}"));
    let mut text = String::new();
    let read = |input: &mut dyn std::io::Read, text: &mut String| {
        std::io::Read::read_to_string(&mut std::io::Read::take(input, MAX_BYTES + 1), text)
    };
    let done = if path == "-" {
        read(&mut std::io::stdin().lock(), &mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| read(&mut file, &mut text))
    };
    done.map_err(|error| wrong(&error))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(wrong(&format!("it has more than {MAX_BYTES} bytes")));
    }
    serde_json::from_str(&text).map_err(|error| wrong(&error))
}
