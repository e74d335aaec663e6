//! Links in texts.

/// Longest target address of a link, in characters.
pub const MAX_URL_LENGTH: usize = 2_000;

/// Parts of the user agents of programs that open links automatically.
const ROBOTS: [&str; 16] = [
    "bot",
    "crawl",
    "spider",
    "preview",
    "facebookexternalhit",
    "whatsapp",
    "telegram",
    "skype",
    "slack",
    "discord",
    "embedly",
    "scan",
    "curl",
    "wget",
    "python",
    "headless",
];

/// Whether a person clicked, rather than a program that previews or checks links. In doubt, nobody
/// clicked.
#[must_use]
pub fn is_person(user_agent: Option<&str>, purpose: Option<&str>) -> bool {
    let user_agent = user_agent.unwrap_or_default().to_lowercase();
    let is_robot = ROBOTS.iter().any(|name| user_agent.contains(name));
    let purpose = purpose.unwrap_or_default().to_lowercase();
    let is_ahead = purpose.contains("prefetch") || purpose.contains("preview");
    !user_agent.is_empty() && !is_robot && !is_ahead
}

/// Whether a link may lead to this address: http or https, with a host, in printable ASCII.
#[must_use]
pub fn is_web_address(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    url.len() <= MAX_URL_LENGTH
        && host.is_some_and(|host| !host.is_empty() && !host.contains('@'))
        && url.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_do_not_count() {
        let phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Mobile Safari/604.1";
        assert!(is_person(Some(phone), None));
        assert!(is_person(Some(phone), Some("navigate")));
        assert!(!is_person(Some(phone), Some("prefetch;prerender")));
        assert!(!is_person(Some(phone), Some("Preview")));
        for robot in ["WhatsApp/2.23", "Slackbot-LinkExpanding 1.0", "Twitterbot/1.0", "curl/8", ""]
        {
            assert!(!is_person(Some(robot), None), "{robot}");
        }
        assert!(!is_person(None, None));
    }

    #[test]
    fn links_lead_to_the_web_only() {
        for good in ["https://example.com", "http://shop.example.com/a?b=c#d"] {
            assert!(is_web_address(good), "{good}");
        }
        for bad in [
            "",
            "example.com",
            "ftp://example.com",
            "javascript:alert(1)",
            "https://",
            "https:///a",
            "https://a b",
            "https://example.com\r\nX: y",
            "https://me@example.com",
            "https://ex\u{e4}mple.com",
        ] {
            assert!(!is_web_address(bad), "{bad}");
        }
    }

    #[test]
    fn an_address_has_at_most_2000_characters() {
        let longest = format!("https://example.com/{}", "a".repeat(MAX_URL_LENGTH - 20));
        assert_eq!(longest.len(), 2_000);
        assert!(is_web_address(&longest));
        assert!(!is_web_address(&format!("{longest}a")));
    }
}
