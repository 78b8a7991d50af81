//! Where the API of a project is.

use url::Url;

/// Ids at least this long carry a region in their characters 2 to 5, as the SDKs read it.
const SHORTEST_WITH_REGION: usize = 32;

/// The base URL: the explicit one, or what follows from the project id.
///
/// A region that is not four ASCII letters or digits is none: it would become part of a host name, and the
/// management key goes to that host.
pub fn base_url(project_id: &str, explicit: Option<&Url>) -> Url {
    if let Some(explicit) = explicit {
        return explicit.clone();
    }
    let has_region = project_id.chars().count() >= SHORTEST_WITH_REGION;
    let url = match project_id.get(1..5).filter(|r| has_region && r.chars().all(|c| c.is_ascii_alphanumeric())) {
        Some(region) => format!("https://api.{region}.descope.com"),
        None => "https://api.descope.com".to_owned(),
    };
    Url::parse(&url).unwrap_or_else(|error| unreachable!("letters, digits and dots make a host: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_read_from_long_ids_only() {
        let cases = [
            ("P2abcdefghijklmnopqrstuvwxy1", "https://api.descope.com/"),
            ("P2abcdefghijklmnopqrstuvwxy", "https://api.descope.com/"),
            ("Puse12aAc4T2V93bddihGEx2Ryhc8e5Z", "https://api.use1.descope.com/"),
            ("Peuc12aAc4T2V93bddihGEx2Ryhc8e5Zlong", "https://api.euc1.descope.com/"),
            ("Puse12aAc4T2V93bddihGEx2Ryhc8e5", "https://api.descope.com/"),
            ("", "https://api.descope.com/"),
            ("P", "https://api.descope.com/"),
        ];
        for (id, url) in cases {
            assert_eq!(base_url(id, None).as_str(), url, "{id}");
        }
    }

    #[test]
    fn an_id_cannot_send_the_key_to_another_host() {
        let tail = "x".repeat(40);
        for start in ["Pa/?#", "Pa@b:", "P....", "Pé1é1", "ééééé", "Püse1", "P\u{0}\n\t ", "P%2F%"] {
            assert_eq!(base_url(&format!("{start}{tail}"), None).as_str(), "https://api.descope.com/", "{start:?}");
        }
    }

    #[test]
    fn an_explicit_url_always_wins() {
        let explicit = Url::parse("https://auth.example.com/descope").unwrap();

        assert_eq!(base_url("Puse12aAc4T2V93bddihGEx2Ryhc8e5Z", Some(&explicit)), explicit);
    }
}
