//! A running Prometheus.

use crate::http;
use crate::observer::Guard;
use crate::wait;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Labels of a series.
pub type Labels = BTreeMap<String, String>;

/// A Prometheus with a storage of its own; it ends with this value.
pub struct Prometheus {
    _child: Guard,
    _folder: TempDir,
    address: String,
}

impl Prometheus {
    /// Starts it with one target, scraped and evaluated at this interval (such as `1s`), and files of rules.
    ///
    /// # Errors
    /// When it doesn't get ready.
    pub fn start(target: &str, interval: &str, rules: &[&Path]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("prometheus.yml");
        let rules: Vec<_> = rules.iter().map(|path| format!("\"{}\"", path.display())).collect();
        fs::write(
            &config,
            format!(
                "global: {{scrape_interval: {interval}, scrape_timeout: {interval}, evaluation_interval: {interval}}}\n\
                 rule_files: [{}]\n\
                 scrape_configs: [{{job_name: observer, honor_labels: true, static_configs: [{{targets: [\"{target}\"]}}]}}]\n",
                rules.join(", "),
            ),
        )?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("log"))?)
            .spawn()?;
        let mut child = Guard(child);
        wait::until("Prometheus", || {
            let ended = child.0.try_wait()?;
            let log = || fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            ensure!(ended.is_none(), "Prometheus ended: {}", log());
            Ok(get(&address, "/-/ready").ok())
        })?;
        Ok(Self { _child: child, _folder: folder, address })
    }

    /// The series that a query gives now, with their values.
    ///
    /// # Errors
    /// When it is no valid query.
    pub fn query(&self, query: &str) -> Result<Vec<(Labels, f64)>> {
        let answer = self.api(&format!("query?query={}", http::encoded(query)))?;
        let series = answer["result"].as_array().with_context(|| format!("`{query}`: {answer}"))?;
        series
            .iter()
            .map(|one| {
                let value = one["value"][1].as_str().with_context(|| format!("no value: {one}"))?;
                Ok((serde_json::from_value(one["metric"].clone())?, value.parse()?))
            })
            .collect()
    }

    /// Labels of the alerts that fire now.
    ///
    /// # Errors
    /// When Prometheus doesn't answer.
    pub fn firing(&self) -> Result<Vec<Labels>> {
        let answer = self.api("alerts")?;
        let alerts = answer["alerts"].as_array().with_context(|| format!("{answer}"))?;
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing.map(|alert| Ok(serde_json::from_value(alert["labels"].clone())?)).collect()
    }

    fn api(&self, path: &str) -> Result<Value> {
        let answer: Value = serde_json::from_str(&get(&self.address, &format!("/api/v1/{path}"))?)?;
        Ok(answer["data"].clone())
    }
}

/// Version 1.0, so that the answer comes in one piece.
fn get(address: &str, path: &str) -> Result<String> {
    let response = http::request(address, &format!("GET {path} HTTP/1.0\r\nHost: test\r\n\r\n"))?;
    ensure!(response.status == 200, "{path}: {response:?}");
    Ok(response.body)
}
