//! Parsers of flags.

use std::ops::RangeInclusive;

use clap::builder::RangedI64ValueParser;

/// Returns a parser of whole numbers in a range, both ends included.
pub(crate) fn within(range: RangeInclusive<i64>) -> RangedI64ValueParser<u32> {
    RangedI64ValueParser::new().range(range)
}
