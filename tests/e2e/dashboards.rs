//! The Grafana dashboards under `deploy/grafana`.

use crate::rules;
use anyhow::{Context, Result, ensure};
use observer_tests::manifest::folder;
use observer_tests::prometheus::Prometheus;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

/// One query, and where it is.
struct Query {
    place: String,
    expression: String,
}

fn dashboards() -> Result<Vec<Value>> {
    let files = fs::read_dir(folder().join("grafana"))?;
    files.map(|file| Ok(serde_json::from_str(&fs::read_to_string(file?.path())?)?)).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn queries(dashboards: &[Value]) -> Result<Vec<Query>> {
    let panels =
        dashboards.iter().flat_map(|board| list(&board["panels"]).iter().map(move |one| (board, one)));
    let targets = panels.flat_map(|(board, panel)| {
        let place = format!("{} / {}", board["title"], panel["title"]);
        list(&panel["targets"]).iter().map(move |target| (place.clone(), target))
    });
    let queries = targets.map(|(place, target)| {
        let expression = target["expr"].as_str().with_context(|| format!("{place}: no query"))?.to_owned();
        Ok(Query { place, expression })
    });
    queries.collect()
}

/// Runs every query with all variables at "all"; each must give at least one series.
pub(crate) fn have_data(prometheus: &Prometheus) -> Result<()> {
    let dashboards = dashboards()?;
    // The longest first: one name may begin with another.
    let mut names: Vec<String> = dashboards.iter().flat_map(variables).collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    for Query { place, expression } in queries(&dashboards)? {
        let mut query = expression.replace("$__rate_interval", "15s");
        for name in &names {
            query = query.replace(&format!("${name}"), ".*");
        }
        let series = prometheus.query(&query)?;
        ensure!(!series.is_empty(), "{place} has no data: {query}");
    }
    Ok(())
}

fn variables(dashboard: &Value) -> Vec<String> {
    let list = list(&dashboard["templating"]["list"]);
    list.iter().filter_map(|variable| Some(variable["name"].as_str()?.to_owned())).collect()
}

/// Queries use metrics and recorded rules that there are, and variables that the dashboard has.
#[test]
fn queries_use_what_exists() -> Result<()> {
    let reference = fs::read_to_string(folder().join("METRICS.md"))?;
    let rules = fs::read_to_string(folder().join("prometheus/observer.rules.yml"))?;
    let dashboards = dashboards()?;
    ensure!(dashboards.len() == 3, "nodes, one workload, one go statement");
    for dashboard in &dashboards {
        let known: BTreeSet<String> = variables(dashboard).into_iter().collect();
        for Query { place, expression } in queries(std::slice::from_ref(dashboard))? {
            for name in rules::metrics(&expression) {
                let metric = name.strip_suffix("_bucket").unwrap_or(name);
                ensure!(reference.contains(&format!("`{metric}`")), "{place}: {name}");
            }
            for name in recorded(&expression) {
                ensure!(rules.contains(&format!("- record: {name}\n")), "{place}: {name}");
            }
            for used in expression.split('$').skip(1) {
                let end = used.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(used.len());
                let name = &used[..end];
                ensure!(name == "__rate_interval" || known.contains(name), "{place}: ${name}");
            }
        }
    }
    Ok(())
}

/// Names of recorded rules in a query.
fn recorded(expression: &str) -> impl Iterator<Item = &str> {
    expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')
        .filter(|word| word.starts_with("observer:"))
}

/// Grafana can load them: identities are unique, every panel has a place, a title and an explanation, and asks the
/// data source that the user chooses.
#[test]
fn dashboards_are_well_formed() -> Result<()> {
    let dashboards = dashboards()?;
    let uids: BTreeSet<_> = dashboards.iter().filter_map(|board| board["uid"].as_str()).collect();
    assert_eq!(uids.len(), dashboards.len());
    for board in &dashboards {
        let panels = list(&board["panels"]);
        let ids: BTreeSet<_> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
        assert_eq!(ids.len(), panels.len(), "{}", board["title"]);
        for panel in panels {
            let title = &panel["title"];
            ensure!(panel["gridPos"]["w"].as_u64().is_some() && title.as_str().is_some(), "{panel}");
            if panel["type"] == "row" {
                continue;
            }
            ensure!(panel["description"].as_str().is_some_and(|text| text.len() > 10), "{title}");
            ensure!(panel["datasource"]["uid"] == "${datasource}", "{title}");
        }
    }
    Ok(())
}
