//! JSON columns.

use super::error::{StoreError, StoreResult};

/// Reads a JSON column into a domain type.
pub(super) fn from_json<T: serde::de::DeserializeOwned>(
    value: serde_json::Value,
) -> StoreResult<T> {
    // The error of serde would show the value.
    serde_json::from_value(value)
        .map_err(|_| StoreError::Corrupt(std::any::type_name::<T>().to_owned()))
}

/// Converts a domain type to JSON to store. Our types have no keys that JSON lacks, so this cannot
/// fail on them.
pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> StoreResult<serde_json::Value> {
    serde_json::to_value(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}
