//! The files under `deploy/`, read by the tools that their users have.

use anyhow::{Context, Result, ensure};
use observer_tests::discovery;
use observer_tests::gate::{Need, have};
use observer_tests::manifest::{DaemonSet, folder, yaml};
use observer_tests::observer;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const OVERLAYS: [&str; 5] =
    ["base", "overlays/cri-o", "overlays/k3s", "overlays/prometheus-operator", "overlays/snapshots-only"];
/// Kubernetes versions: the first that knows all fields, and the newest that the validator knows.
const VERSIONS: [&str; 2] = ["1.30", "1.37"];

const VALIDATORS: [Need; 2] =
    [Need::Command("kubernetes-validate"), Need::Command("prometheus-operator-validate")];

/// Runs a program that must succeed; returns what it wrote to standard output.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

fn kustomize(overlay: &str) -> Result<String> {
    output(Command::new("kustomize").arg("build").arg(folder().join("kubernetes").join(overlay)))
}

fn helm(options: &[&str]) -> Result<String> {
    let mut helm = Command::new("helm");
    helm.args(["template", "observer"]).arg(folder().join("helm/observer"));
    output(helm.args(["--namespace", "observer", "--kube-version", VERSIONS[0]]).args(options))
}

/// The documents of a rendered manifest.
fn documents(text: &str) -> Result<Vec<Value>> {
    let parts = text.split("\n---").map(|part| part.trim_start_matches("---"));
    let documents = parts.map(|part| serde_saphyr::from_str::<Option<Value>>(part).context(part.to_owned()));
    documents.filter_map(Result::transpose).collect()
}

fn document(documents: &[Value], kind: &str) -> Result<Value> {
    let found = documents.iter().find(|document| document["kind"] == kind);
    found.cloned().with_context(|| format!("no {kind}"))
}

/// Checks each document against the schema of its kind, Kubernetes' own with unknown fields included; returns those of
/// the Prometheus operator.
fn validate(text: &str) -> Result<Vec<Value>> {
    let folder = tempfile::tempdir()?;
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for (number, document) in documents(text)?.into_iter().enumerate() {
        let file = folder.path().join(format!("{number}.json"));
        fs::write(&file, document.to_string())?;
        if document["apiVersion"]
            .as_str()
            .is_some_and(|version| version.starts_with("monitoring.coreos.com/"))
        {
            output(Command::new("prometheus-operator-validate").arg(&file))?;
            others.push(document);
        } else {
            own.push(file);
        }
    }
    for version in VERSIONS {
        output(Command::new("kubernetes-validate").args(["--strict", "-k", version]).args(&own))?;
    }
    Ok(others)
}

/// What kustomize makes of the base and of each overlay is valid.
#[test]
fn kustomizations_are_valid() -> Result<()> {
    if !have(&VALIDATORS) || !have(&[Need::Command("kustomize")]) {
        return Ok(());
    }
    for overlay in OVERLAYS {
        let rendered = kustomize(overlay)?;
        let others = validate(&rendered).context(overlay)?;
        ensure!(others.len() == if overlay.contains("prometheus") { 2 } else { 0 }, "{overlay}: {others:?}");
    }
    let crio = document(&documents(&kustomize("overlays/cri-o")?)?, "DaemonSet")?.to_string();
    ensure!(crio.contains("/run/crio") && !crio.contains("/run/containerd"), "{crio}");
    Ok(())
}

/// `kubectl apply -k`, without a cluster, takes the base and each overlay, and would create just what kustomize makes of
/// them. The schemas are checked by the validators.
#[test]
fn kubectl_takes_the_kustomizations() -> Result<()> {
    if !have(&[Need::Command("kubectl"), Need::Command("kustomize")]) {
        return Ok(());
    }
    let home = tempfile::tempdir()?;
    for overlay in OVERLAYS {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let documents = documents(&kustomize(overlay)?)?;
        let kinds = documents.iter().map(|document| (text(&document["apiVersion"]), text(&document["kind"])));
        let server = format!("http://{}", discovery::start(&kinds.collect())?);
        let mut apply = Command::new("kubectl");
        apply.args([
            "--server",
            &server,
            "apply",
            "--dry-run=client",
            "--validate=false",
            "--output=json",
            "-k",
        ]);
        let applied: Value = serde_json::from_str(&output(
            apply.arg(folder().join("kubernetes").join(overlay)).env("HOME", home.path()),
        )?)?;
        let named = |objects: &[Value]| -> BTreeSet<String> {
            objects
                .iter()
                .map(|object| format!("{} {}", object["kind"], object["metadata"]["name"]))
                .collect()
        };
        let applied = applied["items"].as_array().context("no list")?;
        assert_eq!(named(applied), named(&documents), "{overlay}");
        ensure!(applied.len() == documents.len() && documents.len() >= 4, "{overlay}");
    }
    Ok(())
}

/// A field that doesn't exist and a duration that is none are refused: the validators would notice a mistake.
#[test]
fn mistakes_are_refused() -> Result<()> {
    if !have(&VALIDATORS) || !have(&[Need::Command("kustomize")]) {
        return Ok(());
    }
    for (right, wrong) in [("hostPID:", "hostPid:"), ("interval: 15s", "interval: soon")] {
        let rendered = kustomize("overlays/prometheus-operator")?;
        ensure!(
            rendered.contains(right) && validate(&rendered.replace(right, wrong)).is_err(),
            "{wrong} passed"
        );
    }
    Ok(())
}

/// The chart is valid with every option, and without options it is the kustomization.
#[test]
fn the_chart_is_valid() -> Result<()> {
    if !have(&VALIDATORS) || !have(&[Need::Command("helm"), Need::Command("kustomize")]) {
        return Ok(());
    }
    output(Command::new("helm").args(["lint", "--strict"]).arg(folder().join("helm/observer")))?;
    let all = [
        "probes=false",
        "criFolder=",
        "args={--interval=30s}",
        "priorityClassName=system-node-critical",
        "podMonitor.enabled=true",
        "prometheusRule.enabled=true",
    ];
    let changed = helm(&all.iter().flat_map(|value| ["--set", value]).collect::<Vec<_>>())?;
    let others = validate(&changed)?;
    let rules = yaml(&folder().join("prometheus/observer.rules.yml"))?;
    assert_eq!(document(&others, "PrometheusRule")?["spec"]["groups"], rules["groups"]);
    let pod = document(&documents(&changed)?, "DaemonSet")?["spec"]["template"]["spec"].clone();
    let container = &pod["containers"][0];
    assert_eq!(
        container["args"],
        serde_json::json!(["serve", "--no-probes", "--no-pod-metadata", "--interval=30s"])
    );
    assert_eq!(
        container["securityContext"]["capabilities"]["add"],
        serde_json::json!(["DAC_READ_SEARCH", "SYS_PTRACE"])
    );

    let (plain, base) = (documents(&helm(&[])?)?, documents(&kustomize("base")?)?);
    for kind in ["DaemonSet", "NetworkPolicy"] {
        assert_eq!(document(&plain, kind)?["spec"], document(&base, kind)?["spec"], "{kind}");
    }
    Ok(())
}

/// A value that the chart doesn't know, or can't use, is refused by its name.
#[test]
fn the_chart_refuses_mistakes() -> Result<()> {
    if !have(&[Need::Command("helm")]) {
        return Ok(());
    }
    for (wrong, says) in [
        ("podmonitor.enabled=true", "Additional property podmonitor is not allowed"),
        ("probes=perhaps", "probes: Invalid type"),
        ("args=--interval=30s", "args: Invalid type"),
    ] {
        let refused = helm(&["--set", wrong]).err().with_context(|| format!("{wrong} passed"))?;
        ensure!(refused.to_string().contains(says), "{wrong}: {refused}");
    }
    Ok(())
}

/// The kustomization's PrometheusRule and the chart's PodMonitor are the files they were made from.
#[test]
fn prometheus_operator_files_are_current() -> Result<()> {
    let rules = fs::read_to_string(folder().join("prometheus/observer.rules.yml"))?;
    let (_, groups) = rules.split_once("\ngroups:\n").context("no groups")?;
    let groups: String = groups
        .lines()
        .map(|line| if line.is_empty() { "\n".into() } else { format!("  {line}\n") })
        .collect();
    let wanted = format!(
        "# Written from deploy/prometheus/observer.rules.yml by `UPDATE_GOLDEN=1 cargo xtask test operator`.\n\
         apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: observer\n  labels:\n    \
         app.kubernetes.io/name: observer\nspec:\n  groups:\n{groups}"
    );
    let path = folder().join("kubernetes/overlays/prometheus-operator/rules.yaml");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &wanted)?;
    }
    ensure!(fs::read_to_string(&path)? == wanted, "{} is old: see its first line", path.display());
    if !have(&[Need::Command("helm"), Need::Command("kustomize")]) {
        return Ok(());
    }
    let chart = document(&documents(&helm(&["--set", "podMonitor.enabled=true"])?)?, "PodMonitor")?;
    let overlay = document(&documents(&kustomize("overlays/prometheus-operator")?)?, "PodMonitor")?;
    assert_eq!(chart["spec"], overlay["spec"]);
    Ok(())
}

/// Pod and unit have the capabilities that `observer check` names, and no others.
#[test]
fn privileges_are_those_that_check_names() -> Result<()> {
    let report = observer::run(&["check", "--output", "json"])?.json()?;
    let features = report["features"].as_array().context("no features")?;
    let words = features.iter().filter_map(|feature| feature["needs"].as_str()).flat_map(|needs| {
        needs.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("CAP_"))
    });
    let needed: BTreeSet<String> = words.map(str::to_owned).collect();
    let pod = DaemonSet::read()?.capabilities()?;
    assert_eq!(pod.drop, ["ALL"]);
    assert_eq!(pod.add.iter().map(|name| format!("CAP_{name}")).collect::<BTreeSet<_>>(), needed);
    let unit = fs::read_to_string(folder().join("systemd/observer.service"))?;
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).context("no set")?;
    assert_eq!(line.split(' ').map(str::to_owned).collect::<BTreeSet<_>>(), needed);
    Ok(())
}

/// systemd understands every line of the unit, and finds it well shut in.
#[test]
fn systemd_accepts_the_unit() -> Result<()> {
    if !have(&[Need::Command("systemd-analyze")]) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let unit = fs::read_to_string(self::folder().join("systemd/observer.service"))?;
    let installed = Path::new("/usr/local/bin/observer").display().to_string();
    let here = unit.replace(&installed, &observer::binary()?.display().to_string());
    let path = folder.path().join("observer.service");
    fs::write(&path, &here)?;
    let analyze = |args: &[&str]| {
        let output = Command::new("systemd-analyze").args(args).arg(&path).output()?;
        let said = [output.stdout, output.stderr].concat();
        anyhow::Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
    };
    let (verified, said) = analyze(&["verify", "--man=no"])?;
    ensure!(verified && said.trim().is_empty(), "{said}");
    // In tenths: up to 4.0 systemd calls it "OK".
    let (shut, said) = analyze(&["security", "--offline=yes", "--threshold=40"])?;
    ensure!(shut, "{said}");

    fs::write(&path, here.replace("ProtectSystem=strict", "ProtectSystem=nonsense"))?;
    let (_, said) = analyze(&["verify", "--man=no"])?;
    ensure!(said.contains("nonsense"), "a mistake went unnoticed: {said}");
    Ok(())
}
