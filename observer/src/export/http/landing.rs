//! The page at `/`: a person who finds the port sees what it is, and what grows.

use std::borrow::Cow;
use std::fmt::Write;

use crate::export::by_growth;
use crate::model::view::{CallsiteView, TargetView, View};
use crate::text::{printable, truncated};

/// Rows of the table.
const ROWS: usize = 10;
/// Bytes of a name.
const MAX_NAME: usize = 256;

const HEAD: &str = "<!DOCTYPE html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><title>observer</title>
<style>body{font-family:sans-serif;margin:2em}td,th{padding:.2em 1em .2em 0;text-align:left}\
td.n{text-align:right}</style></head><body>
";

/// The page for `view`, or for no view yet.
pub(super) fn page(view: Option<&View>, telemetry_path: &str) -> String {
    let mut html = HEAD.to_owned();
    let path = escaped(telemetry_path);
    // Writing to a string can't fail.
    _ = write!(
        html,
        "<h1>observer {}</h1>\n<p>Shows every goroutine of every Go process on this machine, from \
         outside.</p>\n<ul><li><a href=\"{path}\">metrics</a></li><li><a href=\"/readyz\">readiness</a></li>\
         <li><a href=\"/healthz\">health</a></li></ul>\n",
        env!("CARGO_PKG_VERSION"),
    );
    match view {
        None => html.push_str("<p>No view yet: the first tick has not ended.</p>\n"),
        Some(view) => table(&mut html, view),
    }
    html.push_str("</body></html>\n");
    html
}

fn table(html: &mut String, view: &View) {
    _ = writeln!(html, "<p>{} Go processes.</p>", view.targets.len());
    html.push_str("<h2>Growing most</h2>\n<table><tr><th>process</th><th>pid</th><th>created by</th>");
    html.push_str("<th>entry</th><th>live</th><th>growth/s</th></tr>\n");
    for (target, callsite) in growing(view) {
        _ = writeln!(
            html,
            "<tr><td>{}</td><td class=\"n\">{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{:+.1}</td></tr>",
            escaped(&target.process),
            target.pid,
            escaped(&callsite.created_by),
            escaped(&callsite.entry),
            callsite.live,
            callsite.growth_per_second.unwrap_or_default(),
        );
    }
    html.push_str("</table>\n");
}

/// The callsites that grow, of all targets, fastest first.
fn growing(view: &View) -> Vec<(&TargetView, &CallsiteView)> {
    let all = view.targets.iter().flat_map(|target| target.callsites.iter().map(move |c| (target, c)));
    let mut growing: Vec<_> =
        all.filter(|(_, callsite)| callsite.growth_per_second.is_some_and(|growth| growth > 0.0)).collect();
    growing.sort_by(|(_, a), (_, b)| by_growth(a, b));
    growing.truncate(ROWS);
    growing
}

/// `text` as the content of an element or of a quoted attribute.
fn escaped(text: &str) -> String {
    let safe: Cow<'_, str> = printable(truncated(text, MAX_NAME));
    let mut html = String::with_capacity(safe.len());
    for c in safe.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::testdata::{HOSTILE, view};

    /// A name from a target can't add markup to the page or leave an attribute.
    #[test]
    fn names_are_escaped() {
        let mut view = view();
        view.targets[2].callsites[0].growth_per_second = Some(1e9);
        let html = page(Some(&view), HOSTILE);
        assert!(html.contains("&lt;b&gt;&amp;&#39;") && html.contains("&quot;quoted\\&quot;"));
        assert!(!html.contains("<b>") && !html.contains('\u{1b}') && !html.contains("\"quoted"));
    }

    /// The fastest growing callsite is in the first row; one that shrinks is in none.
    #[test]
    fn table_shows_what_grows() {
        let html = page(Some(&view()), "/metrics");
        let rows: Vec<_> = html.lines().filter(|line| line.starts_with("<tr>")).collect();
        assert_eq!(rows.len(), 2);
        assert!(
            rows[0].contains("reconcile.func1") && rows[0].contains("183742") && rows[0].contains("+101.2")
        );
        assert!(html.contains("<p>4 Go processes.</p>"));
    }
}
