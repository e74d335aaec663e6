//! Lines of rows, counted as a spreadsheet shows them: the header is line 1, empty lines count, and a field of
//! several lines counts as one.

use super::quotes::Quotes;
use std::collections::VecDeque;

/// Follower of a CSV that knows the line at which each row begins.
#[derive(Debug)]
pub struct RowStarts {
    quotes: Quotes,
    line: i64,
    /// Whether the row before has ended and the next one has not begun.
    is_between: bool,
    is_after_return: bool,
    begun: VecDeque<i64>,
}

impl RowStarts {
    pub fn new(delimiter: u8) -> Self {
        let (quotes, begun) = (Quotes::new(delimiter), VecDeque::new());
        Self { quotes, line: 1, is_between: true, is_after_return: false, begun }
    }

    /// Follows the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let is_end = !self.quotes.is_inside() && matches!(byte, b'\n' | b'\r');
            self.quotes.follow(*byte);
            if is_end {
                // A return with a line feed ends one line.
                let is_rest = *byte == b'\n' && self.is_after_return;
                self.line += i64::from(!is_rest);
                self.is_between = true;
            } else if self.is_between {
                self.begun.push_back(self.line);
                self.is_between = false;
            }
            self.is_after_return = is_end && *byte == b'\r';
        }
    }

    /// Takes the line of the next row.
    pub fn take(&mut self) -> Option<i64> {
        self.begun.pop_front()
    }

    /// Returns the problem of the quotes at the end of input, if there is one.
    pub fn end(&self) -> Option<String> {
        self.quotes.end()
    }
}

/// Lines of all rows by number. Rows that follow each other line by line take no space.
#[derive(Clone, Debug, Default)]
pub struct LineNumbers {
    /// Rows that do not begin in the line after the row before, with their lines.
    steps: Vec<(i64, i64)>,
}

impl LineNumbers {
    /// Stores the line of a row. Rows come in order.
    pub fn add(&mut self, row: i64, line: i64) {
        if self.steps.is_empty() || self.line(row) != line {
            self.steps.push((row, line));
        }
    }

    /// Returns the line of a row.
    pub fn line(&self, row: i64) -> i64 {
        let after = self.steps.partition_point(|(first, _)| *first <= row);
        let step = after.checked_sub(1).and_then(|at| self.steps.get(at));
        step.map_or(row, |(first, line)| line + (row - first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(text: &str) -> Vec<i64> {
        let mut starts = RowStarts::new(b',');
        // Input arrives in pieces of any size.
        text.as_bytes().chunks(3).for_each(|bytes| starts.feed(bytes));
        std::iter::from_fn(|| starts.take()).collect()
    }

    #[test]
    fn lines_are_those_of_a_spreadsheet() {
        assert_eq!(starts("phone\n1\n2"), [1, 2, 3]);
        assert_eq!(starts("phone\r\n\r\n1\r\n2\r\n"), [1, 3, 4]);
        assert_eq!(starts("phone,note\n1,\"two\nlines\"\n\n2,x\n"), [1, 2, 4]);
        assert_eq!(starts("\u{feff}\"phone\nnumber\"\n1\n"), [1, 2]);
        assert_eq!(starts("phone\r1\r\r2"), [1, 2, 4]);
    }

    #[test]
    fn numbers_of_rows_lead_to_lines() {
        let mut lines = LineNumbers::default();
        for (row, line) in [(1, 2), (2, 3), (3, 5), (4, 6), (5, 9)] {
            lines.add(row, line);
        }
        assert_eq!(lines.steps.len(), 3);
        let all: Vec<i64> = (1..=6).map(|row| lines.line(row)).collect();
        assert_eq!(all, [2, 3, 5, 6, 9, 10]);
    }
}
