//! Names that are near one that was typed, for "did you mean".

/// Most names that are proposed.
const MAX_NEAR: usize = 5;

/// Collector of the names nearest to one.
#[derive(Clone, Debug)]
pub struct Near {
    typed: String,
    /// Names with their distances, nearest first.
    found: Vec<(usize, String)>,
}

impl Near {
    pub fn new(typed: &str) -> Self {
        Self { typed: typed.to_lowercase(), found: Vec::new() }
    }

    /// Offers a name, which is kept if it is among the nearest. `compared` is the part of it that people type.
    pub fn offer(&mut self, name: &str, compared: &str) {
        let Some(distance) = far(&self.typed, &compared.to_lowercase()) else { return };
        let offered = (distance, name.to_owned());
        if let Err(at) = self.found.binary_search(&offered) {
            self.found.insert(at, offered);
            self.found.truncate(MAX_NEAR);
        }
    }

    /// Returns `; did you mean "A" or "B"?`, or nothing if no name is near.
    pub fn question(&self) -> String {
        let names: Vec<String> = self.found.iter().map(|(_, name)| format!("{name:?}")).collect();
        match names.split_last() {
            None => String::new(),
            Some((last, [])) => format!("; did you mean {last}?"),
            Some((last, others)) => format!("; did you mean {} or {last}?", others.join(", ")),
        }
    }
}

/// Returns the distance of two names in lower case, or `None` if they are too far apart to be meant. The first words
/// or any part of a name may stand for it.
fn far(typed: &str, name: &str) -> Option<usize> {
    let letters = |text: &str| text.chars().collect::<Vec<char>>();
    let (typed_letters, name_letters) = (letters(typed), letters(name));
    let most = (typed_letters.len() / 3).max(1);
    let words = typed.split(' ').count();
    let first_words = name.split(' ').take(words).collect::<Vec<_>>().join(" ");
    let near = |other: &[char]| {
        let is_close = other.len().abs_diff(typed_letters.len()) <= most;
        is_close.then(|| edits(&typed_letters, other)).filter(|edits| *edits <= most)
    };
    // Names with more letters than were typed come after all others.
    let rest = name_letters.len();
    let is_part =
        typed_letters.len().min(rest) >= 3 && (name.contains(typed) || typed.contains(name));
    near(&name_letters)
        .or_else(|| near(&letters(&first_words)).map(|edits| edits + rest))
        .or_else(|| is_part.then_some(rest))
}

/// Returns the number of letters that were added, left out, changed or swapped with their neighbour.
fn edits(from: &[char], to: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.iter().enumerate() {
        let mut now = vec![row + 1];
        for (at, other) in to.iter().enumerate() {
            let changed = last[at] + usize::from(letter != other);
            let mut least = changed.min(last[at + 1] + 1).min(now[at] + 1);
            if row > 0 && at > 0 && *letter == to[at - 1] && from[row - 1] == *other {
                least = least.min(before_last[at - 1] + 1);
            }
            now.push(least);
        }
        before_last = std::mem::replace(&mut last, now);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(typed: &str, names: &[&str]) -> String {
        let mut near = Near::new(typed);
        names.iter().for_each(|name| near.offer(name, name));
        near.question()
    }

    #[test]
    fn near_names_are_proposed_and_far_ones_are_not() {
        let names = ["Spring offer", "Autumn offer", "Winter"];
        assert_eq!(question("Sprnig offer", &names), r#"; did you mean "Spring offer"?"#);
        assert_eq!(question("Sprnig", &names), r#"; did you mean "Spring offer"?"#);
        assert_eq!(question("spring", &names), r#"; did you mean "Spring offer"?"#);
        assert_eq!(
            question("offer", &names),
            r#"; did you mean "Autumn offer" or "Spring offer"?"#
        );
        assert_eq!(question("Summer", &names), "");
        assert_eq!(question("", &names), "");
    }

    #[test]
    fn at_most_five_names_are_proposed_the_nearest_first() {
        let names = ["Mailing 1", "Mailing 2", "Mailing 3", "Mailing 4", "Mailing 5", "Mailing"];
        let question = question("Mailng", &names);
        assert!(question.starts_with(r#"; did you mean "Mailing", "Mailing 1","#), "{question}");
        assert_eq!(question.matches("Mailing").count(), MAX_NEAR, "{question}");
    }
}
