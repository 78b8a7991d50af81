//! `GET /`: the page for whoever is on call. A shell without data: what it shows it asks for, with the token where one is
//! needed.
//!
//! Everything it consists of is in the binary, and the policy sent along lets it load nothing else.

use crate::http::routes;
use axum::extract::Path;
use axum::http::HeaderName;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;

/// Scripts and styles from here alone, none inline; data from here alone; in no frame; no form that leaves the page. The
/// icon is an empty `data:` one. Text never becomes markup: the browser refuses it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

const SHELL: &str = include_str!("page/index.html");

/// Beside the shell, by name below `page/`.
const FILES: &[(&str, &str, &str)] = &[
    ("page.css", CSS, include_str!("page/page.css")),
    ("main.js", JS, include_str!("page/main.js")),
    ("api.js", JS, include_str!("page/api.js")),
    ("dom.js", JS, include_str!("page/dom.js")),
    ("words.js", JS, include_str!("page/words.js")),
    ("overview.js", JS, include_str!("page/overview.js")),
    ("changes.js", JS, include_str!("page/changes.js")),
    ("history.js", JS, include_str!("page/history.js")),
    ("traffic.js", JS, include_str!("page/traffic.js")),
    ("actions.js", JS, include_str!("page/actions.js")),
    ("resource.js", JS, include_str!("page/resource.js")),
];

/// The shell.
pub async fn shell() -> Response {
    file(HTML, SHELL)
}

/// One of its files.
pub async fn part(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(file, ..)| *file == name) {
        Some((_, kind, text)) => file(kind, text),
        None => routes::error(StatusCode::NOT_FOUND, "not found"),
    }
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, &str); 6] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        // Files of another release never meet this one's.
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What would bring in something from elsewhere, or make text into markup or code.
    const FORBIDDEN: &[&str] = &[
        "http://",
        "https://",
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "localStorage",
        "sessionStorage",
        "document.cookie",
        "indexedDB",
        "style=",
        "onclick=",
        "<script>",
        "<style",
        "@import",
        "url(",
    ];

    #[test]
    fn the_page_brings_everything_along_and_keeps_nothing() {
        let files = FILES.iter().map(|(name, _, text)| (*name, *text)).chain([("index.html", SHELL)]);
        for (name, text) in files {
            for forbidden in FORBIDDEN {
                // The name space of SVG is a name, not an address.
                let text = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!text.contains(forbidden), "{name} has {forbidden}");
            }
        }
    }

    #[test]
    fn every_file_that_the_page_names_is_served() {
        let quoted = |text: &'static str, quote: char| text.split(quote).skip(1).step_by(2).collect::<Vec<_>>();
        let mut named: Vec<String> =
            quoted(SHELL, '"').into_iter().filter_map(|name| name.strip_prefix("page/")).map(str::to_owned).collect();
        for (_, _, text) in FILES {
            let imports = text.lines().filter(|line| line.starts_with("import "));
            named.extend(imports.filter_map(|line| Some(line.split("\"./").nth(1)?.split('"').next()?.to_owned())));
        }
        assert!(named.len() > 5, "{named:?}");
        for name in named {
            assert!(FILES.iter().any(|(file, ..)| *file == name), "{name}");
        }
    }
}
