//! Privacy: no number, name or secret is in the programs' output or in an answer that was not OK.

use super::findings::Violation;
use crate::Result;
use crate::numbers::{MAX_HISTORIES, NUMBERS_EACH, NUMBERS_OF_CROWD, name, number, of_crowd};
use crate::provider::SECRET;
use crate::world::ERASURE_KEY;
use std::collections::HashSet;
use std::path::Path;

/// Letters of a name, and digits of a number.
const LENGTH: usize = 11;

/// Reads the logs of replicas and workers in a folder, and the answers that were not OK.
pub(super) fn judge(
    folder: &Path,
    errors: &[String],
    violations: &mut Vec<Violation>,
) -> Result<()> {
    let hidden = people();
    let mut find = |place: String, text: &[u8]| {
        for line in text.split(|byte| *byte == b'\n').filter(|line| shows(line, &hidden)) {
            let what = format!("shown: {}", String::from_utf8_lossy(line));
            violations.push(Violation { promise: "privacy", campaign: place.clone(), what });
        }
    };
    for file in std::fs::read_dir(folder)? {
        let file = file?;
        let log = file.file_name().to_string_lossy().into_owned();
        if log.ends_with(".log") && (log.starts_with("replica-") || log.starts_with("worker-")) {
            find(log, &std::fs::read(file.path())?);
        }
    }
    find("answers".to_owned(), errors.join("\n").as_bytes());
    Ok(())
}

/// Returns the numbers and names of all who may take part.
fn people() -> HashSet<Vec<u8>> {
    let numbers = (0..MAX_HISTORIES).flat_map(|n| (0..NUMBERS_EACH).map(move |at| number(n, at)));
    let both = |number: String| {
        [name(&number).into_bytes(), number.trim_start_matches('+').as_bytes().to_vec()]
    };
    numbers.chain((0..NUMBERS_OF_CROWD).map(of_crowd)).flat_map(both).collect()
}

fn shows(line: &[u8], hidden: &HashSet<Vec<u8>>) -> bool {
    let has = |secret: &[u8]| line.windows(secret.len()).any(|part| part == secret);
    line.windows(LENGTH).any(|part| hidden.contains(part))
        || has(SECRET.as_bytes())
        || has(ERASURE_KEY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_named_is_found() {
        let hidden = people();
        assert_eq!(hidden.len(), 2 * (MAX_HISTORIES * NUMBERS_EACH + NUMBERS_OF_CROWD));
        assert!(hidden.iter().all(|person| person.len() == LENGTH));
        let shown = [
            format!("calling {}", number(3, 4)),
            format!("contact={:?}", name(&number(MAX_HISTORIES - 1, 49))),
            format!("key={SECRET}"),
        ];
        for line in shown {
            assert!(shows(line.as_bytes(), &hidden), "{line}");
        }
        let other =
            "request_id=0ba34762-312f-4959-8955-5fcb441f64d9 contact=campaigns/1/contacts/2";
        assert!(!shows(other.as_bytes(), &hidden));
    }
}
