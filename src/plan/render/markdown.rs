//! A plan as a comment on a pull request: a row for each resource, nothing in it that a value could turn into markup, and
//! never longer than a comment may be.

use super::ChangeReport;
use super::FieldReport;
use super::Listed;
use super::ProjectReport;
use super::RefusedReport;
use super::Report;
use super::document;
use super::drift_text;
use super::hold_text;
use super::how_to_release;
use super::human::Placed;
use super::human::by_kind;
use super::human::counts;
use super::human::deletes_apart;
use super::human::elements;
use super::human::is_delete;
use super::summary;
use super::wait_text;
use crate::resource::Action;
use crate::telemetry::line::one_line;
use crate::telemetry::status::Wait;
use serde_json::Value;
use std::collections::HashMap;
use std::collections::HashSet;

/// A comment of GitHub holds 65,536 characters; whoever posts this one wants a few for a mark of his own.
const LONGEST: usize = 60_000;
/// What one row may take of it: a resource with very much in it must not hide the others.
const LONGEST_ROW: usize = 3_000;
/// Characters of a value.
const LONGEST_VALUE: usize = 300;
/// More changes than these are folded, kind by kind.
const FOLD_FROM: usize = 12;
/// Of warnings and refusals.
const MOST_REMARKS: usize = 20;

const HEAD: &str = "| | resource | what | where |\n| --- | --- | --- | --- |\n";

/// Every project.
pub fn markdown(report: &Report<'_>) -> String {
    let each = LONGEST / report.projects.len().max(1);
    let mut out = String::new();
    for (n, project) in report.projects.iter().enumerate() {
        let section = of_project(project, each);
        if out.chars().count() + section.chars().count() > LONGEST {
            let (left, all) = (report.projects.len() - n, report.projects.len());
            out.extend([format!(
                "**{left} of {all} projects are not shown**, since a comment holds no more; `plan -o text` has all of them.\n"
            )]);
            break;
        }
        out.push_str(&section);
    }
    out
}

fn of_project(project: &ProjectReport<'_>, room: usize) -> String {
    let mut end = String::new();
    for hold in &project.holds {
        // Words of ours.
        end.extend([format!("- {}\n", one_line(&hold_text(hold)).replace('<', "&lt;"))]);
    }
    if let Some(held) = &project.held {
        // Ours, with the commands in back-ticks; the fingerprint is hexadecimal.
        end.extend([format!("\n{}\n", one_line(&how_to_release(&held.as_read(&project.holds))))]);
    }
    let begun = |notes: &mut dyn Iterator<Item = &str>| {
        let mut out = format!("### {}\n\n{}\n\n", escaped(&project.name), escaped(&summary(project)));
        remarks(project, notes, room / 4, &mut out);
        let shown = fitting(project, room.saturating_sub(out.len() + end.len()));
        (out, shown)
    };
    let (mut out, mut shown) = begun(&mut project.notes());
    if shown.len() < project.changes.len() {
        // A row that is not there says nothing.
        (out, shown) = begun(&mut project.warnings.iter().map(|warning| &**warning));
    }
    let rows_of =
        |changes: &[Placed<'_>]| changes.iter().filter_map(|(at, _)| shown.get(at)).map(String::as_str).collect();
    let (deletes, others) = deletes_apart(project);
    let is_folded = others.len() > FOLD_FROM;
    if is_folded {
        for (kind, changes) in by_kind(others) {
            let rows: String = rows_of(&changes);
            let title = format!("{}: {}", escaped(kind), counts(&changes));
            let table = if rows.is_empty() { String::new() } else { format!("{HEAD}{rows}") };
            out.extend([format!("<details><summary>{title}</summary>\n\n{table}\n</details>\n\n")]);
        }
    } else if !others.is_empty() {
        let rows: String = rows_of(&others);
        out.extend([format!("{HEAD}{rows}\n")]);
    }
    if !deletes.is_empty() {
        let rows: String = rows_of(&deletes);
        out.extend([format!("**Deletes: {}, each with whatever hangs on it**\n\n{HEAD}{rows}\n", deletes.len())]);
    }
    let cut = project.changes.len() - shown.len();
    if cut > 0 {
        out.extend([format!(
            "**{cut} of {} changes are not shown**, since a comment holds no more; `plan -o text` has all of them.\n\n",
            project.changes.len()
        )]);
    }
    out + &end + "\n"
}

fn remarks(project: &ProjectReport<'_>, notes: &mut dyn Iterator<Item = &str>, room: usize, out: &mut String) {
    let refused = project.refused.iter().map(|refused| {
        let RefusedReport { kind, id, message, file, line, .. } = refused;
        let (kind, id, message) = (escaped(kind), escaped(id), escaped(&short(message)));
        let place = file.as_ref().zip(*line);
        let place = place.map_or_else(String::new, |(file, line)| format!(" ({}:{line})", escaped(file)));
        format!("> **{kind}/{id}** cannot be carried out: {message}{place}\n\n")
    });
    let notes = notes.map(|note| format!("> {}\n\n", escaped(&short(note))));
    let all: Vec<String> = refused.chain(notes).collect();
    let mut left = room;
    let fits = |text: &&String| {
        let is_fitting = text.chars().count() <= left;
        left = left.saturating_sub(text.chars().count());
        is_fitting
    };
    let shown: Vec<&String> = all.iter().take(MOST_REMARKS).take_while(fits).collect();
    out.extend(shown.iter().map(|text| text.as_str()));
    if all.len() > shown.len() {
        out.extend([format!("> {} more remarks are not shown\n\n", all.len() - shown.len())]);
    }
}

/// The rows that fit: those that a reviewer must see come first.
fn fitting(project: &ProjectReport<'_>, room: usize) -> HashMap<usize, String> {
    // The heads of the tables and the lines around them, one for each kind at most.
    let kinds: HashSet<&str> = project.changes.iter().map(Listed::kind).collect();
    let mut left = room.saturating_sub(400 + kinds.len() * 200);
    let urgency = |change: Listed<'_>| match (is_delete(change), change.held().is_some(), change.action()) {
        (true, ..) => 0,
        (_, true, _) => 1,
        (.., "create") => 3,
        _ => 2,
    };
    let mut order: Vec<Placed<'_>> = project.changes.iter().enumerate().collect();
    order.sort_by_key(|(_, change)| urgency(*change));
    let waits = project.wait_of();
    let mut shown = HashMap::new();
    for (at, change) in order {
        let change = change.report();
        let row = row(&change, waits.get(&(&*change.kind, &*change.id)).copied());
        let length = row.chars().count();
        if length > left {
            break;
        }
        left -= length;
        shown.insert(at, row);
    }
    shown
}

fn row(change: &ChangeReport, wait: Option<&Wait>) -> String {
    let place = change.file.as_ref().zip(change.line);
    let place = place.map_or_else(String::new, |(file, line)| format!("{}:{line}", escaped(file)));
    let held = change.held.as_ref().map_or_else(String::new, |reason| {
        let why = change.why.as_ref().map_or_else(String::new, |why| format!(": {}", escaped(&short(why))));
        format!("**held: {}**{why}<br>", escaped(reason))
    });
    let drift = drift_text(change).map_or_else(String::new, |text| format!("{}<br>", escaped(&short(&text))));
    let waits = wait.filter(|_| change.held.is_none());
    let waits = waits.map_or_else(String::new, |wait| format!("waits: {}<br>", escaped(&short(&wait_text(wait)))));
    let mut what = held + &drift + &waits;
    for (n, field) in change.fields.iter().enumerate() {
        let text = field_text(field, change.action == Action::Create.as_str());
        if what.len() + text.len() > LONGEST_ROW {
            what.extend([format!("and {} more fields", change.fields.len() - n)]);
            break;
        }
        what.push_str(&text);
        what.push_str("<br>");
    }
    let what = what.strip_suffix("<br>").unwrap_or(&what);
    let action = escaped(&change.action);
    let action = if is_delete(Listed::Rendered(change)) { format!("**{action}**") } else { action };
    let resource = code(&short(&format!("{}/{}", change.kind, crate::resource::legible::legible(&change.id))));
    format!("| {action} | {resource} | {what} | {place} |\n")
}

fn field_text(field: &FieldReport, is_new: bool) -> String {
    let FieldReport { path, from, to, .. } = field;
    let path = escaped(&short(path));
    if is_new {
        return format!("{path}: {}", shown(to));
    }
    if let Some((gone, come)) = elements(from, to) {
        let all = |sign: &str, items: &[Value]| {
            items.iter().map(|item| format!(" {sign}{}", shown(item))).collect::<Vec<_>>().concat()
        };
        let text = format!("{path}:{}{}", all("−", &gone), all("+", &come));
        if text.len() < LONGEST_ROW {
            return text;
        }
        return format!("{path}: {} gone, {} new", gone.len(), come.len());
    }
    format!("{path}: {} → {}", shown(from), shown(to))
}

fn shown(value: &Value) -> String {
    match document(value) {
        _ if value.is_null() => "nothing".to_owned(),
        Some(document) => escaped(&document),
        None => code(&short(&value.to_string())),
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST_VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Text from outside as code. Markdown reads on inside of `<code>`, so nothing in it may be markup.
fn code(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
}

/// Text from outside as that text: every character that Markdown, HTML or the site around could take for more is written
/// by its number. `www.` would become a link.
fn escaped(text: &str) -> String {
    let text = one_line(text);
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    for c in text.chars() {
        let is_safe =
            !c.is_ascii_punctuation() || matches!(c, ',' | ';' | '?' | '/' | '%' | '=') || c == '.' && before != 'w';
        if is_safe {
            out.push(c);
        } else {
            out.extend([format!("&#{};", u32::from(c))]);
        }
        before = c.to_ascii_lowercase();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::plan::render::Pace;
    use serde_json::json;

    /// Remarks took any room, and many projects more than there is.
    #[test]
    fn many_remarks_of_many_projects_are_cut_and_counted() {
        let warnings = (0..50).map(|n| format!("{n}{}", "*".repeat(300))).collect();
        let plan = Plan { warnings, ..Plan::default() };
        for count in [1, 3, 40, 1000] {
            let projects = (0..count).map(|n| ProjectReport::new(&format!("p{n}"), &plan, Pace::Free)).collect();

            let text = markdown(&Report::new(projects));

            let length = text.chars().count();
            assert!(length <= 65_000, "{count}: {length}");
            assert!(text.contains("more remarks are not shown"), "{count}");
            assert!(count < 1000 || text.contains("projects are not shown"), "{count}");
        }
    }

    #[test]
    fn a_row_holds_as_much_as_it_may_and_counts_the_rest() {
        let field = |path: &str| json!({ "path": path, "from": null, "to": "x".repeat(100) });
        let of = |fields: Vec<Value>| {
            let change = json!({ "kind": "roles", "id": "a", "action": "create", "held": null, "file": null, "line": null,
                "fields": fields });
            row(&serde_json::from_value(change).unwrap(), None)
        };
        let cell = |row: &str| row.split(" | ").nth(2).unwrap().to_owned();
        let one = cell(&of(vec![field("p")])).len() + "<br>".len();
        let (whole, left) = (LONGEST_ROW / one, LONGEST_ROW % one);
        // The last one ends where the row does, or is longer by one.
        let last = |more: usize| {
            let mut fields = vec![field("p"); whole - 1];
            fields.push(field(&"p".repeat(1 + left + "<br>".len() + more)));
            cell(&of(fields))
        };

        assert_eq!(last(0).len(), LONGEST_ROW);
        assert!(last(1).ends_with("and 1 more fields"), "{}", last(1));
    }

    #[test]
    fn no_value_is_markup() {
        for (text, expected) in [
            ("a|b", "a&#124;b"),
            ("<img src=x>", "&#60;img src=x&#62;"),
            ("[x](y) @all #1 *b* `c`", "&#91;x&#93;&#40;y&#41; &#64;all &#35;1 &#42;b&#42; &#96;c&#96;"),
            ("https://evil www.evil.com", "https&#58;//evil www&#46;evil.com"),
            ("&amp;", "&#38;amp;"),
            ("a\n| b", "a&#92;n&#124; b"),
        ] {
            assert_eq!(escaped(text), expected);
        }
    }
}
