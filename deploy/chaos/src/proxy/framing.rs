//! Framing: as much of the protocols as it takes to find the named points, where messages begin and
//! end.

/// Protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// PostgreSQL's protocol, version 3, without TLS.
    Postgres,
    /// HTTP/2 without TLS.
    Http2,
    /// Small requests and answers, each in one piece.
    Pieces,
}

/// Direction of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// Meaning of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// COMMIT on its way to the database.
    Commit,
    /// Answer of the database that it committed.
    Committed,
    /// Message to the service.
    Send,
    /// Message of the service.
    Acknowledge,
    /// Request to the provider.
    Dial,
    /// Answer of the provider.
    Dialled,
}

/// Moment to stop at: just before a unit is passed on, or just after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Kind of the unit.
    pub kind: Kind,
    /// Whether the moment is after the unit.
    pub is_after: bool,
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match (self.kind, self.is_after) {
            (Kind::Commit, false) => "commit.before",
            (Kind::Commit, true) => "commit.sent",
            (Kind::Committed, false) => "commit.after",
            (Kind::Committed, true) => "commit.answered",
            (Kind::Send, false) => "send.before",
            (Kind::Send, true) => "send.after",
            (Kind::Acknowledge, false) => "ack.before",
            (Kind::Acknowledge, true) => "ack.after",
            (Kind::Dial, false) => "dial.before",
            (Kind::Dial, true) => "dial.after",
            (Kind::Dialled, false) => "dialled.before",
            (Kind::Dialled, true) => "dialled.after",
        };
        f.write_str(name)
    }
}

/// Bytes that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub length: usize,
    /// Kind of the unit, if the proxy may stop at it.
    pub kind: Option<Kind>,
}

/// Finder of units in the bytes of one side.
pub(super) struct Framer {
    framing: Framing,
    direction: Direction,
    /// Whether the next unit is the first, which has no header like the rest.
    is_first: bool,
}

/// Length of the preface that an HTTP/2 client sends first.
const PREFACE_LENGTH: usize = 24;
/// Length of the header of an HTTP/2 frame.
const FRAME_HEADER_LENGTH: usize = 9;

impl Framer {
    pub fn new(framing: Framing, direction: Direction) -> Self {
        Self { framing, direction, is_first: direction == Direction::Up }
    }

    /// Returns the unit at the beginning of the bytes, once it is complete.
    pub fn next(&mut self, bytes: &[u8]) -> Option<Unit> {
        if bytes.is_empty() {
            return None;
        }
        let unit = match self.framing {
            Framing::Postgres => self.postgres(bytes)?,
            Framing::Http2 => self.http2(bytes)?,
            Framing::Pieces => {
                let kind = if self.direction == Direction::Up { Kind::Dial } else { Kind::Dialled };
                Unit { length: bytes.len(), kind: Some(kind) }
            }
        };
        self.is_first = false;
        Some(unit)
    }

    fn postgres(&self, bytes: &[u8]) -> Option<Unit> {
        let length = |at: usize| {
            let bytes: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
            usize::try_from(u32::from_be_bytes(bytes)).ok()
        };
        if self.is_first {
            let length = length(0)?;
            return (length <= bytes.len()).then_some(Unit { length, kind: None });
        }
        let length = 1 + length(1)?;
        let body = bytes.get(5..length)?;
        let kind = match (self.direction, bytes[0], body) {
            // The notice of the commit follows in the same message.
            (Direction::Up, b'Q', sql) if sql.starts_with(b"COMMIT") => Some(Kind::Commit),
            (Direction::Down, b'C', b"COMMIT\0") => Some(Kind::Committed),
            _ => None,
        };
        Some(Unit { length, kind })
    }

    fn http2(&self, bytes: &[u8]) -> Option<Unit> {
        if self.is_first {
            let unit = Unit { length: PREFACE_LENGTH, kind: None };
            return (bytes.len() >= PREFACE_LENGTH).then_some(unit);
        }
        let header = bytes.get(..FRAME_HEADER_LENGTH)?;
        let payload =
            usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        let length = FRAME_HEADER_LENGTH + payload;
        if bytes.len() < length {
            return None;
        }
        // DATA frames carry the messages; an empty one only ends a stream.
        let is_message = header[3] == 0 && payload > 0;
        let kind = if self.direction == Direction::Up { Kind::Send } else { Kind::Acknowledge };
        Some(Unit { length, kind: is_message.then_some(kind) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(framing: Framing, direction: Direction, bytes: &[u8]) -> Vec<(usize, Option<Kind>)> {
        let mut framer = Framer::new(framing, direction);
        let (mut at, mut units) = (0, Vec::new());
        // Bytes may come one by one from a network.
        for end in 1..=bytes.len() {
            while let Some(unit) = framer.next(&bytes[at..end]) {
                at += unit.length;
                units.push((unit.length, unit.kind));
            }
        }
        assert_eq!(at, bytes.len());
        units
    }

    #[test]
    fn commits_are_found_on_their_way_and_back() {
        let up = b"\0\0\0\x08\0\x03\0\0Q\0\0\0\x0aBEGIN\0Q\0\0\0\x0bCOMMIT\0X\0\0\0\x04";
        let found = units(Framing::Postgres, Direction::Up, up);
        assert_eq!(found, [(8, None), (11, None), (12, Some(Kind::Commit)), (5, None)]);
        let telling = b"\0\0\0\x08\0\x03\0\0Q\0\0\0\x15COMMIT; SELECT 1\0";
        let found = units(Framing::Postgres, Direction::Up, telling);
        assert_eq!(found, [(8, None), (22, Some(Kind::Commit))]);
        let down = b"C\0\0\0\x0bCOMMIT\0Z\0\0\0\x05IC\0\0\0\x0dROLLBACK\0";
        let found = units(Framing::Postgres, Direction::Down, down);
        assert_eq!(found, [(12, Some(Kind::Committed)), (6, None), (14, None)]);
    }

    #[test]
    fn messages_are_found_among_frames() {
        let mut up = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        up.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        up.extend([0, 0, 3, 0, 1, 0, 0, 0, 1, 7, 7, 7]);
        let found = units(Framing::Http2, Direction::Up, &up);
        assert_eq!(found, [(24, None), (9, None), (12, Some(Kind::Send))]);
    }
}
