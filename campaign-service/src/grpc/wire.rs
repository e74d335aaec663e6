//! Check of the bytes of a message before they are decoded. An error names the faulty field.
//!
//! The decoder of the library fails without a field's name, and its server answers INTERNAL. Bytes that pass this check
//! can be decoded, and their texts can be stored.

use crate::app::error::Violation;
use prost_reflect::{DescriptorPool, Kind as FieldKind, MessageDescriptor};
use std::collections::HashMap;

/// Longest text, in bytes. Each field has a shorter limit of its own.
const MAX_TEXT_BYTES: usize = 16 * 1024;
/// Messages that are answered one by one. Their own reader checks their texts, so that an invalid message does not fail
/// the others of its request. Messages of a worker's stream are answered one by one too.
const ITEMS: [&str; 3] =
    ["campaign.v1.ImportRow", "campaign.v1.ReportedInteraction", "campaign.v1.DispatchRequest"];
/// Fields with phone numbers that are answered one by one.
const ITEM_FIELDS: [&str; 1] = ["campaign.v1.AddSuppressionsRequest.phone_numbers"];

/// Shapes of the messages of all methods.
#[derive(Debug, Default)]
pub struct Shapes {
    shapes: Vec<Shape>,
    by_name: HashMap<String, usize>,
    methods: HashMap<String, Input>,
}

/// Input of a method.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    shape: usize,
    /// Whether the method takes any number of messages.
    pub is_stream: bool,
}

#[derive(Debug)]
struct Shape {
    fields: Vec<Field>,
    is_item: bool,
}

#[derive(Debug)]
struct Field {
    number: u32,
    name: String,
    kind: Kind,
    is_list: bool,
    is_item: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Varint,
    Fixed32,
    Fixed64,
    Text,
    Bytes,
    Message(usize),
}

/// Fault in some bytes: the field and the problem.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    pub field: String,
    pub problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The bytes end within the field.
    CutOff,
    /// The bytes are not valid for the field's type.
    Malformed,
    NotText,
    Nul,
    TooLong,
}

impl From<Fault> for Violation {
    fn from(fault: Fault) -> Self {
        let description = match fault.problem {
            Problem::CutOff => "is cut off".to_owned(),
            Problem::Malformed => "is not what the field's type in the .proto file says".to_owned(),
            Problem::NotText => "must be text in UTF-8".to_owned(),
            Problem::Nul => "must not contain NUL characters".to_owned(),
            Problem::TooLong => format!("must have at most {MAX_TEXT_BYTES} bytes"),
        };
        Self { field: fault.field, description }
    }
}

/// Field within the fields around it.
struct Place<'a> {
    around: Option<&'a Self>,
    name: &'a str,
    index: Option<usize>,
}

impl Place<'_> {
    fn path(&self) -> String {
        let mut path = match self.around {
            // Keys and values of map entries have names that begin with a space.
            Some(around) if self.name.starts_with(' ') => format!("{}{}", around.path(), self.name),
            Some(around) => format!("{}.{}", around.path(), self.name),
            None => self.name.to_owned(),
        };
        if let Some(index) = self.index {
            path += &format!("[{index}]");
        }
        path
    }

    fn fault(&self, problem: Problem) -> Fault {
        Fault { field: self.path(), problem }
    }
}

impl Shapes {
    /// Reads the shapes of the methods in some descriptor sets.
    ///
    /// # Panics
    /// Panics if a set is not a descriptor set. The service's sets are compiled in.
    #[must_use]
    pub fn of(sets: &[&[u8]]) -> Self {
        let mut shapes = Self::default();
        for set in sets {
            let pool = DescriptorPool::decode(*set).expect("a descriptor set that is compiled in");
            for service in pool.services() {
                for method in service.methods() {
                    let path = format!("/{}/{}", service.full_name(), method.name());
                    let is_stream = method.is_client_streaming();
                    let shape = shapes.add(&method.input());
                    shapes.methods.insert(path, Input { shape, is_stream });
                }
            }
        }
        shapes
    }

    fn add(&mut self, message: &MessageDescriptor) -> usize {
        if let Some(known) = self.by_name.get(message.full_name()) {
            return *known;
        }
        let index = self.shapes.len();
        self.by_name.insert(message.full_name().to_owned(), index);
        let is_item = ITEMS.contains(&message.full_name());
        self.shapes.push(Shape { fields: Vec::new(), is_item });
        for field in message.fields() {
            let kind = match field.kind() {
                FieldKind::String => Kind::Text,
                FieldKind::Bytes => Kind::Bytes,
                FieldKind::Message(inner) => Kind::Message(self.add(&inner)),
                FieldKind::Double | FieldKind::Fixed64 | FieldKind::Sfixed64 => Kind::Fixed64,
                FieldKind::Float | FieldKind::Fixed32 | FieldKind::Sfixed32 => Kind::Fixed32,
                _ => Kind::Varint,
            };
            let of_entry = if message.is_map_entry() { " " } else { "" };
            self.shapes[index].fields.push(Field {
                number: field.number(),
                name: format!("{of_entry}{}", field.name()),
                kind,
                is_list: field.is_list(),
                is_item: ITEM_FIELDS.contains(&field.full_name()),
            });
        }
        index
    }

    /// Returns the input of the method at a path, if there is such a method.
    pub fn input(&self, path: &str) -> Option<Input> {
        self.methods.get(path).copied()
    }

    /// Checks all bytes of a message, or only its first bytes.
    pub fn check(&self, input: Input, bytes: &[u8]) -> Result<(), Fault> {
        self.walk(input.shape, bytes, false, None)
    }

    fn walk(
        &self,
        shape: usize,
        mut bytes: &[u8],
        is_item: bool,
        around: Option<&Place<'_>>,
    ) -> Result<(), Fault> {
        let shape = &self.shapes[shape];
        let is_item = is_item || shape.is_item;
        let whole = Place { around: None, name: "message", index: None };
        let around_or_whole = around.unwrap_or(&whole);
        // Entries of a list follow each other.
        let (mut last, mut count) = (0, 0);
        while !bytes.is_empty() {
            let key = varint(&mut bytes).map_err(|problem| around_or_whole.fault(problem))?;
            let number =
                u32::try_from(key >> 3).ok().filter(|number| (1..1 << 29).contains(number));
            let number = number.ok_or_else(|| around_or_whole.fault(Problem::Malformed))?;
            count = if number == last { count + 1 } else { 0 };
            last = number;
            let field = shape.fields.iter().find(|field| field.number == number);
            let Some(field) = field else {
                let skipped = value(&mut bytes, key & 7);
                skipped.map_err(|problem| around_or_whole.fault(problem))?;
                continue;
            };
            let place = Place { around, name: &field.name, index: field.is_list.then_some(count) };
            self.field(field, key & 7, &mut bytes, is_item || field.is_item, &place)?;
        }
        Ok(())
    }

    fn field(
        &self,
        field: &Field,
        wire: u64,
        bytes: &mut &[u8],
        is_item: bool,
        place: &Place<'_>,
    ) -> Result<(), Fault> {
        let fault = |problem| place.fault(problem);
        let start = *bytes;
        let content = match value(bytes, wire) {
            Ok(content) => content,
            // The fault is in the inner field that continues beyond the end.
            Err(Problem::CutOff) if wire == 2 && matches!(field.kind, Kind::Message(_)) => {
                let mut rest = start;
                varint(&mut rest).map_err(fault)?;
                let Kind::Message(inner) = field.kind else { return Err(fault(Problem::CutOff)) };
                self.walk(inner, rest, is_item, Some(place))?;
                return Err(fault(Problem::CutOff));
            }
            Err(problem) => return Err(fault(problem)),
        };
        match (field.kind, wire) {
            (Kind::Varint, 0) | (Kind::Fixed64, 1) | (Kind::Fixed32, 5) | (Kind::Bytes, 2) => {
                Ok(())
            }
            (Kind::Message(inner), 2) => self.walk(inner, content, is_item, Some(place)),
            (Kind::Text, 2) => match std::str::from_utf8(content) {
                Err(_) => Err(fault(Problem::NotText)),
                Ok(_) if is_item => Ok(()),
                Ok(_) if content.len() > MAX_TEXT_BYTES => Err(fault(Problem::TooLong)),
                Ok(_) if content.contains(&0) => Err(fault(Problem::Nul)),
                Ok(_) => Ok(()),
            },
            (kind, 2) if field.is_list => packed(kind, content).map_err(fault),
            _ => Err(fault(Problem::Malformed)),
        }
    }
}

/// Reads a number off the bytes.
fn varint(bytes: &mut &[u8]) -> Result<u64, Problem> {
    let mut number = 0_u64;
    for shift in 0..10 {
        let (&byte, rest) = bytes.split_first().ok_or(Problem::CutOff)?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << (7 * shift);
        if byte < 0x80 {
            // The tenth byte has room for one bit.
            return if shift == 9 && byte > 1 { Err(Problem::Malformed) } else { Ok(number) };
        }
    }
    Err(Problem::Malformed)
}

/// Reads the value of a field off the bytes.
fn value<'b>(bytes: &mut &'b [u8], wire: u64) -> Result<&'b [u8], Problem> {
    let length = match wire {
        0 => {
            let start = *bytes;
            varint(bytes)?;
            return Ok(&start[..start.len() - bytes.len()]);
        }
        1 => 8,
        5 => 4,
        2 => usize::try_from(varint(bytes)?).map_err(|_| Problem::CutOff)?,
        // Groups are obsolete, and rejected.
        _ => return Err(Problem::Malformed),
    };
    let (content, rest) = bytes.split_at_checked(length).ok_or(Problem::CutOff)?;
    *bytes = rest;
    Ok(content)
}

/// Checks packed numbers, which follow each other without keys.
fn packed(kind: Kind, mut content: &[u8]) -> Result<(), Problem> {
    match kind {
        Kind::Fixed32 if content.len().is_multiple_of(4) => Ok(()),
        Kind::Fixed64 if content.len().is_multiple_of(8) => Ok(()),
        Kind::Varint => {
            while !content.is_empty() {
                varint(&mut content)?;
            }
            Ok(())
        }
        _ => Err(Problem::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use campaign_proto::v1;
    use prost::Message;

    fn faults<M: Message>(method: &str, message: &M) -> Result<(), Fault> {
        let shapes = Shapes::of(&[v1::FILE_DESCRIPTOR_SET]);
        let input = shapes.input(&format!("/campaign.v1.{method}")).expect("a method");
        shapes.check(input, &message.encode_to_vec())
    }

    fn fault(field: &str, problem: Problem) -> Result<(), Fault> {
        Err(Fault { field: field.to_owned(), problem })
    }

    fn nul() -> String {
        "a\0b".to_owned()
    }

    #[test]
    fn a_bad_text_is_named_with_the_way_to_it() {
        let window = |day| v1::WeeklyWindow { weekday: day, ..Default::default() };
        let schedule = v1::Schedule {
            windows: vec![window(1), window(2)],
            blackout_dates: vec!["2026-12-24".to_owned(), nul()],
            ..Default::default()
        };
        let campaign = v1::Campaign { schedule: Some(schedule), ..Default::default() };
        let request = v1::CreateCampaignRequest { campaign: Some(campaign), ..Default::default() };
        let found = faults("CampaignService/CreateCampaign", &request);
        assert_eq!(found, fault("campaign.schedule.blackout_dates[1]", Problem::Nul));

        let attributes = [("note".to_owned(), nul())].into();
        let contact = v1::Contact { attributes, ..Default::default() };
        let request = v1::CreateContactRequest { contact: Some(contact), ..Default::default() };
        let found = faults("ContactService/CreateContact", &request);
        assert_eq!(found, fault("contact.attributes value", Problem::Nul));

        let name = "x".repeat(MAX_TEXT_BYTES + 1);
        let found = faults("CampaignService/GetCampaign", &v1::GetCampaignRequest { name });
        assert_eq!(found, fault("name", Problem::TooLong));
    }

    #[test]
    fn what_is_answered_one_by_one_is_left_to_its_reader() {
        let row = v1::ImportRow { display_name: nul(), ..Default::default() };
        let rows = v1::ImportRows { first_row: 1, rows: vec![row] };
        let part = Some(v1::import_contacts_request::Part::Rows(rows));
        let found = faults("ContactService/ImportContacts", &v1::ImportContactsRequest { part });
        assert_eq!(found, Ok(()));
        let request = v1::AddSuppressionsRequest {
            phone_numbers: vec![nul()],
            source: nul(),
            ..Default::default()
        };
        let found = faults("ContactService/AddSuppressions", &request);
        assert_eq!(found, fault("source", Problem::Nul));
    }

    #[test]
    fn the_field_that_the_first_bytes_end_in_is_named() {
        let shapes = Shapes::of(&[v1::FILE_DESCRIPTOR_SET]);
        let input = shapes.input("/campaign.v1.CampaignService/CreateCampaign").expect("a method");
        let campaign = v1::Campaign {
            display_name: "Spring".to_owned(),
            description: "x".repeat(1_000),
            ..Default::default()
        };
        let request = v1::CreateCampaignRequest { campaign: Some(campaign), ..Default::default() };
        let found = shapes.check(input, &request.encode_to_vec()[..100]);
        assert_eq!(found, fault("campaign.description", Problem::CutOff));
    }
}
