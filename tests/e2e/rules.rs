//! The rules for Prometheus under `deploy/prometheus`.

use anyhow::{Context, Result, ensure};
use observer_tests::gate::{Need, have};
use observer_tests::manifest::{folder, yaml};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

const RULES: &str = "prometheus/observer.rules.yml";
const CASES: &str = "prometheus/observer.rules.test.yml";

/// What stands behind a key anywhere in a document.
fn values<'a>(document: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match document {
        Value::Object(object) => {
            found.extend(object.get(key));
            object.values().for_each(|value| values(value, key, found));
        }
        Value::Array(list) => list.iter().for_each(|value| values(value, key, found)),
        _ => {}
    }
}

fn texts(document: &Value, key: &str) -> Vec<String> {
    let mut found = Vec::new();
    values(document, key, &mut found);
    found.into_iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// promtool accepts the rules, and each alert fires and stays silent as the cases say.
#[test]
fn rules_fire_as_their_cases_say() -> Result<()> {
    if !have(&[Need::Promtool]) {
        return Ok(());
    }
    for (command, file) in [("check", RULES), ("test", CASES)] {
        let output = Command::new("promtool").args([command, "rules"]).arg(folder().join(file)).output()?;
        ensure!(output.status.success(), "{file}: {output:?}");
    }
    Ok(())
}

/// Each alert has a case in which it fires and one in which it doesn't.
#[test]
fn every_alert_has_cases() -> Result<()> {
    let alerts: BTreeSet<String> = texts(&yaml(&folder().join(RULES))?, "alert").into_iter().collect();
    ensure!(!alerts.is_empty());
    let cases = yaml(&folder().join(CASES))?;
    let mut tests = Vec::new();
    values(&cases, "alert_rule_test", &mut tests);
    let mut seen: BTreeMap<String, (bool, bool)> = BTreeMap::new();
    for test in tests.iter().filter_map(|test| test.as_array()).flatten() {
        let name = test["alertname"].as_str().context("no alertname")?;
        let fires = test["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
        let (fired, silent) = seen.entry(name.to_owned()).or_default();
        *fired |= fires;
        *silent |= !fires;
    }
    let both = seen.into_iter().filter(|(_, seen)| *seen == (true, true)).map(|(name, _)| name);
    assert_eq!(both.collect::<BTreeSet<_>>(), alerts);
    Ok(())
}

/// Rules use metrics that there are, and the alerts' page explains each alert.
#[test]
fn rules_use_metrics_that_exist() -> Result<()> {
    let rules = yaml(&folder().join(RULES))?;
    let reference = fs::read_to_string(folder().join("METRICS.md"))?;
    for expression in texts(&rules, "expr") {
        for name in metrics(&expression) {
            ensure!(reference.contains(&format!("`{name}`")), "{name} is no metric: {expression}");
        }
    }
    let page = fs::read_to_string(folder().join("../docs/alerts.md"))?;
    for alert in texts(&rules, "alert") {
        ensure!(page.contains(&format!("## {alert}\n")), "docs/alerts.md lacks {alert}");
    }
    Ok(())
}

/// Names of our metrics in an expression; recorded ones have colons.
pub(crate) fn metrics(expression: &str) -> impl Iterator<Item = &str> {
    expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')
        .filter(|word| word.starts_with("observer_") || word.starts_with("process_"))
}
