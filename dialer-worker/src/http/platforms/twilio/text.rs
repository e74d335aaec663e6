//! Texts: the one to send, and the words by which people opt out.

use crate::call::Attempt;
use crate::http::platform::Wish;

/// Words that opt out and in, in capitals.
const STOPS: [&str; 10] = [
    "STOP",
    "STOPALL",
    "STOP ALL",
    "UNSUBSCRIBE",
    "CANCEL",
    "END",
    "QUIT",
    "REVOKE",
    "OPTOUT",
    "OPT OUT",
];
const STARTS: [&str; 3] = ["START", "YES", "UNSTOP"];

/// Text with names in braces, which are replaced for each contact.
pub(super) struct Template(String);

impl Template {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Returns the text for a contact. A name without a value is replaced by nothing.
    pub fn fill(&self, attempt: &Attempt) -> String {
        let mut filled = String::new();
        let mut rest = self.0.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else { break };
            filled.push_str(before);
            filled.push_str(match name {
                "link" => &attempt.link,
                "display_name" => &attempt.display_name,
                name => attempt.attributes.get(name).map_or("", String::as_str),
            });
            rest = after;
        }
        filled.push_str(rest);
        filled
    }
}

/// Returns the wish that a text expresses, if it is nothing but such a word.
pub(super) fn wish(body: &str) -> Wish {
    let text = body.trim().trim_end_matches(['.', '!']).replace('-', " ").to_uppercase();
    let is_one_of = |words: &[&str]| words.contains(&text.as_str());
    match () {
        () if is_one_of(&STOPS) => Wish::Stop,
        () if is_one_of(&STARTS) => Wish::Start,
        () => Wish::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Leave;

    #[test]
    fn names_are_replaced_and_other_braces_kept() {
        let attempt = Attempt {
            attempt_id: "1-1-1".to_owned(),
            contact: "campaigns/a/contacts/1".to_owned(),
            phone_number: "+15550000001".to_owned(),
            display_name: "Ada".to_owned(),
            time_zone: String::new(),
            attributes: [("city".to_owned(), "Bonn".to_owned())].into(),
            attempt_number: 1,
            link: "https://a.example/l/1".to_owned(),
            leave: Leave::until(tokio::time::Instant::now()),
        };
        let fill = |text: &str| Template::new(text.to_owned()).fill(&attempt);
        assert_eq!(
            fill("Hi {display_name} in {city}: {link}"),
            "Hi Ada in Bonn: https://a.example/l/1"
        );
        assert_eq!(fill("{nothing}{ a"), "{ a");
    }

    #[test]
    fn only_a_word_of_its_own_opts_out() {
        for text in ["STOP", " stop. ", "Opt-out", "Unsubscribe!"] {
            assert_eq!(wish(text), Wish::Stop, "{text}");
        }
        assert_eq!(wish("Start"), Wish::Start);
        for text in ["stop by tomorrow", "", "non-stop"] {
            assert_eq!(wish(text), Wish::None, "{text}");
        }
    }
}
