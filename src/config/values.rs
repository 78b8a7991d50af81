//! How single values are written: `500ms`, `100/60s`, `10%`.

use std::time::Duration;

/// Nothing here is meant to take longer, and instants a year away still add up.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// What humantime takes for months and years, of which it has its own idea of how long they are.
const VAGUE: [&str; 8] = ["M", "month", "months", "y", "yr", "yrs", "year", "years"];

/// `500ms`, `5m`, `1h30m`; up to a year.
pub fn duration(text: &str) -> Result<Duration, String> {
    match span(text)? {
        duration if duration <= LONGEST => Ok(duration),
        _ => Err("must be at most a year".to_owned()),
    }
}

/// The same of any length. Months and years are refused: an `M` is nearly always meant as minutes.
pub fn span(text: &str) -> Result<Duration, String> {
    if let Some(what) = vague(text) {
        return Err(what);
    }
    humantime::parse_duration(text)
        .map_err(|_| format!("must be a duration such as 500ms, 5m, 1h30m or 90d, not `{text}`"))
}

/// Is it written in months or years, and what to write instead?
fn vague(text: &str) -> Option<String> {
    let unit = text.split(|c: char| !c.is_alphabetic()).find(|unit| VAGUE.contains(unit))?;
    let what = if unit.starts_with(['M', 'm']) { "months" } else { "years" };
    Some(format!(
        "must not count in {what}, as `{text}` does (`{unit}`), which are not all of one length; write `m` \
         for minutes, or days, such as 30d"
    ))
}

/// `100/60s`: requests in a window.
pub fn limit(text: &str) -> Result<(f64, Duration), String> {
    let wrong = || format!("must be requests per window such as 100/60s, or null for none, not `{text}`");
    let (requests, window) = text.split_once('/').ok_or_else(wrong)?;
    let requests: u32 = requests.trim().parse().map_err(|_| wrong())?;
    if let Some(what) = vague(window) {
        return Err(what);
    }
    let window = duration(window.trim()).map_err(|_| wrong())?;
    if requests == 0 || window.is_zero() {
        return Err("must allow at least one request in a window longer than zero".to_owned());
    }
    Ok((f64::from(requests), window))
}

/// `true` or `false`.
pub fn flag(text: &str) -> Result<bool, String> {
    choice(text, &[("true", true), ("false", false)])
}

/// `20` or `20%`: 0 to 100.
pub fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse().ok();
    number.filter(|n| *n <= 100).ok_or_else(|| format!("must be a whole number from 0 to 100, not `{text}`"))
}

/// A number above zero.
pub fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0);
    number.ok_or_else(|| format!("must be a number above 0, not `{text}`"))
}

/// A whole number from `least` to `most`.
pub fn whole(text: &str, least: u32, most: u32) -> Result<u32, String> {
    let number = text.parse().ok().filter(|n| (least..=most).contains(n));
    number.ok_or_else(|| format!("must be a whole number from {least} to {most}, not `{text}`"))
}

/// One of some words.
pub fn choice<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("must be {}, not `{text}`", words.join(" or "))
    })
}

/// Projects and owners become metric labels, query parameters and database keys.
pub fn name(text: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=63).contains(&text.len()) && text.chars().all(fits) {
        return Ok(());
    }
    Err("must be 1 to 63 letters, digits, dots, dashes or underscores".to_owned())
}
