//! Check that the quotes of a CSV are closed. An open quote swallows all rows up to the next quote, or to the end.

/// Position of a reader in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    FieldStart,
    Plain,
    Quoted,
    /// After a quote inside a quoted field: the field's end, or the first of two quotes.
    Quote,
    /// After the end of a quoted field.
    Closed,
}

/// Reader that follows a CSV byte by byte (RFC 4180).
#[derive(Debug)]
pub struct Quotes {
    delimiter: u8,
    place: Place,
    /// Whether nothing was read yet but a byte order mark.
    is_at_begin: bool,
    line: u64,
    /// Line of the quote that opened the field.
    opened: u64,
    problem: Option<String>,
}

impl Quotes {
    pub fn new(delimiter: u8) -> Self {
        let place = Place::FieldStart;
        Self { delimiter, place, is_at_begin: true, line: 1, opened: 0, problem: None }
    }

    /// Follows the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.follow(*byte);
        }
    }

    /// Follows one byte.
    pub fn follow(&mut self, byte: u8) {
        self.is_at_begin &= matches!(byte, 0xef | 0xbb | 0xbf);
        if !self.is_at_begin {
            self.place = self.step(byte);
        }
        self.line += u64::from(byte == b'\n');
    }

    /// Returns whether the next byte is inside quotes, and so ends no row.
    pub fn is_inside(&self) -> bool {
        self.place == Place::Quoted
    }

    fn step(&mut self, byte: u8) -> Place {
        match (self.place, byte) {
            (Place::FieldStart, b'"') => {
                self.opened = self.line;
                Place::Quoted
            }
            (Place::Quoted, b'"') => Place::Quote,
            (Place::Quoted, _) => Place::Quoted,
            (Place::Quote, b'"') => Place::Quoted,
            (_, byte) if byte == self.delimiter || matches!(byte, b'\n' | b'\r') => {
                Place::FieldStart
            }
            (Place::Quote | Place::Closed, b' ' | b'\t') => Place::Closed,
            (Place::Quote | Place::Closed, _) => {
                let (opened, line) = (self.opened, self.line);
                self.problem.get_or_insert_with(|| {
                    format!(
                        "line {line}: a quote inside the field that a quote opened in line {opened}; close that \
                         one, or write quotes inside a field twice (\"\")"
                    )
                });
                Place::Plain
            }
            (Place::FieldStart | Place::Plain, _) => Place::Plain,
        }
    }

    /// Returns the problem at the end of input, if there is one.
    pub fn end(&self) -> Option<String> {
        let is_open = self.place == Place::Quoted;
        let unclosed = || {
            format!(
                "line {}: a quote opens a field and is never closed; close it, or write it twice inside quotes",
                self.opened
            )
        };
        self.problem.clone().or_else(|| is_open.then(unclosed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> Option<String> {
        let mut quotes = Quotes::new(b',');
        quotes.feed(text.as_bytes());
        quotes.end()
    }

    #[test]
    fn closed_quotes_are_fine() {
        for text in [
            "a,b\n1,\"x\"\n",
            "a,b\n1,\"x\ny\"\n2,z",
            "a\n\"say \"\"hi\"\"\"\n",
            "a,b\r\n\"1\" ,5\" disk\r\n",
            "\"\",\"\"\n",
            "\u{feff}\"a\nb\",c\n",
            "",
        ] {
            assert_eq!(end(text), None, "{text:?}");
        }
    }

    #[test]
    fn open_quotes_are_named_by_their_line() {
        let open = end("phone,name\n1,a\n2,\"abc\n3,x\n").expect("open");
        assert!(open.starts_with("line 3: "), "{open}");
        let swallowed = end("phone,name\n1,\"abc\n2,x\n3,\"y\"\n").expect("wrong");
        assert!(swallowed.starts_with("line 4: ") && swallowed.contains("line 2"), "{swallowed}");
    }
}
