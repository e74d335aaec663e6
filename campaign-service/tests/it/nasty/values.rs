//! Values for every field of a message: good ones, and all that have broken a program somewhere.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

/// Placeholder for bytes that no text has, of the same length.
const MARK: &str = "\u{1}\u{2}\u{3}";
const LONE_SURROGATE: [u8; 3] = [0xed, 0xa0, 0x80];
/// Valid values of fields.
pub struct Good {
    pub campaign: String,
    pub method: String,
}

impl Good {
    fn value(&self, field: &FieldDescriptor) -> Option<Value> {
        let text = |text: &str| Some(Value::String(text.to_owned()));
        match field.name() {
            "parent" => text(&self.campaign),
            "name" => text(&match self.method.as_str() {
                method if method.contains("Suppression") => "suppressions/+14155550100".to_owned(),
                "GetImport" => format!("{}/imports/i", self.campaign),
                method if method.contains("Contact") => format!("{}/contacts/0", self.campaign),
                _ => self.campaign.clone(),
            }),
            "contact" if field.kind() == Kind::String => {
                text(&format!("{}/contacts/0", self.campaign))
            }
            "phone_number" => text("+14155550123"),
            "phone_numbers" => Some(Value::List(vec![Value::String("+14155550123".to_owned())])),
            "paths" => Some(Value::List(vec![Value::String("display_name".to_owned())])),
            "time_zone" => text("UTC"),
            "lease" if field.kind() == Kind::String => text(&format!("{}/leases/1", self.campaign)),
            "token" => text("8b0f5f3e-6a83-4d4e-9c6f-000000000001"),
            "attempt_id" => text("1-1-0"),
            "display_name" | "description" | "import_id" | "source" | "worker_id"
            | "interaction_id" => text("x"),
            "weekday" | "max_attempts" | "protocol_version" => Some(Value::I32(1)),
            "end_minute" => Some(Value::I32(1_440)),
            "first_row" => Some(Value::I64(1)),
            "outcome" => Some(Value::EnumNumber(1)),
            "success" => message(field).map(|success| Value::Message(DynamicMessage::new(success))),
            _ => None,
        }
    }

    fn message(&self, of: &MessageDescriptor) -> DynamicMessage {
        let mut good = DynamicMessage::new(of.clone());
        for field in of.fields() {
            let is_one_of_many = field.containing_oneof().is_some();
            let inner = message(&field).filter(|_| !is_one_of_many && !field.is_map());
            let inner = inner.filter(|inner| !inner.full_name().starts_with("google.protobuf.T"));
            let value = self.value(&field).or_else(|| {
                let inner = Value::Message(self.message(&inner?));
                Some(if field.is_list() { Value::List(vec![inner]) } else { inner })
            });
            if let Some(value) = value {
                good.set_field(&field, value);
            }
        }
        good
    }

    /// Returns valid messages with one bad field each, and that field's name.
    pub fn mutants(&self, of: &MessageDescriptor) -> Vec<(String, DynamicMessage)> {
        let good = self.message(of);
        let mut mutants = Vec::new();
        for field in of.fields() {
            let mut add = |name: String, value: Value| {
                let mut mutant = good.clone();
                mutant.set_field(&field, value);
                mutants.push((name, mutant));
            };
            if field.is_map() {
                for value in self.texts("") {
                    for (key, value) in [(value.clone(), String::new()), ("k".to_owned(), value)] {
                        let map = [(MapKey::String(key), Value::String(value))].into();
                        add(field.name().to_owned(), Value::Map(map));
                    }
                }
                continue;
            }
            let listed = |value| if field.is_list() { Value::List(vec![value]) } else { value };
            for value in self.nasty(&field) {
                add(field.name().to_owned(), listed(value));
            }
            if let Some(inner) = message(&field) {
                for (name, mutant) in self.mutants(&inner) {
                    add(format!("{}.{name}", field.name()), listed(Value::Message(mutant)));
                }
            }
            if field.is_list() {
                let one = message(&field).map_or(Value::String(String::new()), |inner| {
                    Value::Message(DynamicMessage::new(inner))
                });
                let one = if field.kind() == Kind::Int32 { Value::I32(-1) } else { one };
                add(format!("{} of many", field.name()), Value::List(vec![one; 30_000]));
                add(format!("{} of none", field.name()), Value::List(Vec::new()));
            }
        }
        mutants
    }

    fn nasty(&self, field: &FieldDescriptor) -> Vec<Value> {
        let (least, most) = (i64::from(i32::MIN), i64::from(i32::MAX));
        match field.kind() {
            Kind::String => self.texts(field.name()).into_iter().map(Value::String).collect(),
            Kind::Int32 => [i32::MIN, -1, 0, i32::MAX].map(Value::I32).into(),
            Kind::Enum(_) => [i32::MIN, -1, 0, 99].map(Value::EnumNumber).into(),
            // The values include seconds of the years -5000, -4714, 10000 and 294277.
            Kind::Int64 => [
                i64::MIN,
                least,
                -1,
                0,
                most + 1,
                -219_945_000_000,
                -210_900_000_000,
                253_402_300_800,
                9_224_318_016_000,
                i64::MAX,
            ]
            .map(Value::I64)
            .into(),
            Kind::Bool | Kind::Message(_) => Vec::new(),
            kind => panic!("{kind:?} is new: say what may be wrong with it"),
        }
    }

    fn texts(&self, field: &str) -> Vec<String> {
        let campaign = &self.campaign;
        let mut texts = vec![
            String::new(),
            "a\0b".to_owned(),
            MARK.to_owned(),
            "-1".to_owned(),
            "2147483648".to_owned(),
            "1-1-2147483648".to_owned(),
            "1-9223372036854775807-65535".to_owned(),
            "2147483647-1-1".to_owned(),
            "\u{202e}\u{feff}'; DROP TABLE campaigns; --".to_owned(),
            "\u{10ffff}".repeat(3_000),
            "x".repeat(1 << 20),
            format!("{campaign}\0"),
            format!("{campaign}/contacts/9223372036854775807"),
            format!("{campaign}/leases/9223372036854775807"),
            format!("{campaign}/imports/a\0b"),
            format!("{campaign}/imports/{}", "x".repeat(10_000)),
            "suppressions/+1415\0".to_owned(),
        ];
        if field == "page_token" {
            let places = ["9223372036854775807", "-1", "a\0b", "-9223372036854775808 a"];
            let years = ["-220000000000000000", "9300000000000000000"];
            let years = years.map(|year| format!("{year} 8b0f5f3e-6a83-4d4e-9c6f-000000000001"));
            let places = places.map(str::to_owned).into_iter().chain(years);
            for place in places {
                for listing in
                    ["campaigns", "contacts", "history", "suppressions", "runs", "events"]
                {
                    texts.push(URL_SAFE_NO_PAD.encode(format!("{listing} {place}")));
                }
            }
        }
        texts
    }
}

fn message(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        Kind::Message(message) => Some(message),
        _ => None,
    }
}

/// Returns the bytes of a message, with bytes that no text has in place of the mark.
pub fn bytes(message: &DynamicMessage) -> Bytes {
    let mut bytes = message.encode_to_vec();
    for at in 0..bytes.len().saturating_sub(MARK.len() - 1) {
        if bytes[at..].starts_with(MARK.as_bytes()) {
            bytes[at..at + MARK.len()].copy_from_slice(&LONE_SURROGATE);
        }
    }
    bytes.into()
}
