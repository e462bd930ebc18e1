//! Names from a real container runtime, and which processes are observed by them.

use crate::support::{goroutines, start_as};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use observer_tests::build::{Variant, build};
use observer_tests::containerd::{Containerd, Pod};
use observer_tests::gate::{Need, have, root};
use observer_tests::go::Go;
use observer_tests::proc::{signal, text_is_pristine};
use observer_tests::serve::{Machine, Serve};
use observer_tests::{observer, wait};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;
use tempfile::tempdir;

const IMAGE: &str = "localhost/named:1";
const POD: [(&str, &str); 3] = [("namespace", "shop"), ("pod", "cart-0"), ("container", "cart")];

/// A containerd with a program's image, and a pod that runs it. The runtime doesn't know the containers of another test,
/// so there must be none.
fn with_pod() -> Result<Option<(Containerd, Machine)>> {
    let needs = [Need::Root, Need::Compiler, Need::Command("containerd"), Need::Command("runc")];
    if !have(&needs) {
        return Ok(None);
    }
    let machine = Machine::alone()?;
    let mut containerd = Containerd::start()?;
    let folder = tempdir()?;
    let program = folder.path().join("named");
    fs::copy(build("leak", Go::USUAL, Variant::Static)?, &program)?;
    containerd.import_program(IMAGE, &program)?;
    containerd.run(&pod())?;
    Ok(Some((containerd, machine)))
}

fn pod() -> Pod<'static> {
    // With a rate of 0 and nobody to ask it, everything in it would sleep for ever, which Go doesn't allow.
    let args = vec!["-rate".to_owned(), "1".to_owned()];
    Pod { namespace: "shop", name: "cart-0", container: "cart", image: IMAGE, args, ..Pod::default() }
}

/// `list` names the pod and the container, and tells the pid inside; without asking, the id's beginning is all.
#[test]
fn list_names_containers() -> Result<()> {
    let Some((containerd, _machine)) = with_pod()? else { return Ok(()) };
    let socket = format!("unix://{}", containerd.socket().display());
    let row = |options: &[&str]| -> Result<Value> {
        let args = [&["list", "--output", "json"], options].concat();
        wait::until("the container in list", || {
            let rows = observer::run(&args)?.json()?;
            let rows = rows.as_array().context("no array")?;
            Ok(rows.iter().find(|row| row["process"] == "named").cloned())
        })
    };
    let named = row(&["--cri-socket", &socket])?;
    assert_eq!((&named["namespace"], &named["pod"]), (&"shop".into(), &"cart-0".into()), "{named}");
    assert_eq!((&named["container"], named.get("unit")), (&"cart".into(), None), "{named}");
    let id = named["container_id"].as_str().context("no id")?;
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", named["pid"]))?;
    ensure!(id.len() == 64 && cgroup.contains(id), "{id} is not in {cgroup}");
    let status = fs::read_to_string(format!("/proc/{}/status", named["pid"]))?;
    let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:")?.split_whitespace().last());
    assert_eq!(named["inner_pid"].to_string(), inner.context("no NSpid")?);
    let unnamed = row(&["--no-pod-metadata"])?;
    assert_eq!(unnamed["container"], id[..12]);
    ensure!(unnamed.get("pod").is_none() && unnamed.get("namespace").is_none(), "{unnamed}");
    Ok(())
}

/// Who answers at the runtime's socket is in `check`. With one that hangs, or talks nonsense, `list` has the beginning of
/// the id for a name, and `check` says what is wrong.
#[test]
fn sockets_that_are_no_help() -> Result<()> {
    let Some((containerd, _machine)) = with_pod()? else { return Ok(()) };
    let check = |socket: &Path| -> Result<Value> {
        let socket = socket.display().to_string();
        let report = observer::run(&["check", "--output", "json", "--cri-socket", &socket])?.json()?;
        assert_eq!(report["container_runtimes"][0]["socket"], socket);
        Ok(report["container_runtimes"][0].clone())
    };
    let real = check(&containerd.socket())?;
    ensure!(real["answers"] == true, "{real}");
    ensure!(real["runtime"].as_str().is_some_and(|name| name.starts_with("containerd ")), "{real}");
    let folder = tempdir()?;
    for (name, says) in [("hangs", None), ("lies", Some("HTTP/1.1 200 OK\r\n\r\ncontainerd\r\n"))] {
        let socket = folder.path().join(name);
        let listener = UnixListener::bind(&socket)?;
        // It ends with the test's process, and holds what comes open until then.
        std::thread::spawn(move || {
            let answer = |mut stream: UnixStream| {
                let said = says.map(|words| stream.write_all(words.as_bytes()));
                (stream, said)
            };
            let _open: Vec<_> = listener.incoming().flatten().map(answer).collect();
        });
        let checked = check(&socket)?;
        ensure!(checked["answers"] == false && checked["reason"].is_string(), "{checked}");
        let path = socket.display().to_string();
        let ran = observer::run(&["list", "--output", "json", "--cri-socket", &path])?;
        let rows = ran.json()?;
        let row = rows.as_array().and_then(|rows| rows.iter().find(|row| row["process"] == "named"));
        let row = row.context("no row")?;
        let short = row["container"].as_str().context("no container")?;
        let id = row["container_id"].as_str().context("no id")?;
        ensure!(short == &id[..12] && row.get("pod").is_none(), "{name}: {row}");
    }
    Ok(())
}

/// A container that is replaced by the next of its pod's name has the same series, from its first on: never one
/// with another label. The container id is on the information only.
#[test]
fn a_restarted_container_keeps_its_series() -> Result<()> {
    let Some((mut containerd, _machine)) = with_pod()? else { return Ok(()) };
    let socket = containerd.socket().display().to_string();
    let serve = Serve::start(&["--interval", "200ms", "--cri-socket", &socket])?;
    let seen = |serve: &Serve, other: Option<&str>| -> Result<String> {
        wait::until("the pod", || {
            let samples = serve.metrics()?;
            let of_process = samples.of("observer_goroutines", &[("process", "named")]);
            for sample in of_process {
                let named =
                    POD.iter().all(|(name, value)| sample.labels.get(*name).is_some_and(|v| v == value));
                ensure!(named && !sample.labels.contains_key("unit"), "other labels: {sample:?}");
            }
            let info = samples.of("observer_target_info", &POD).next();
            let id = info.and_then(|info| info.labels.get("container_id")).cloned();
            let all_there = samples.sum("observer_goroutines", &POD).is_some();
            Ok(id.filter(|id| all_there && other != Some(id)))
        })
    };
    let first = seen(&serve, None)?;
    containerd.remove_last()?;
    containerd.run(&pod())?;
    let second = seen(&serve, Some(&first))?;
    ensure!(first.len() == 64 && second.len() == 64);
    let lookups = serve.metrics()?;
    ensure!(lookups.sum("observer_container_lookups_total", &[("result", "named")]) >= Some(2.0));
    Ok(())
}

/// What isn't wanted has neither series nor probes.
#[test]
fn unwanted_processes_are_left_alone() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let directory = tempdir()?;
    let args = ["-rate", "20"];
    let wanted = start_as(directory.path(), "wanted-leak", "leak", &args)?;
    let unwanted = start_as(directory.path(), "unwanted-leak", "leak", &args)?;
    let options = ["--include", "process=(un)?wanted-leak", "--exclude", "process=unwanted.*"];
    let serve = Serve::start(&[&["--interval", "200ms"], &options[..]].concat())?;
    let samples = serve.until("probes in the wanted one", |samples| {
        samples.sum("observer_goroutines_created_total", &[("process", "wanted-leak")]) > Some(10.0)
    })?;
    assert_eq!(goroutines(&samples, "unwanted-leak"), None);
    assert_eq!(samples.sum("observer_targets", &[]), Some(1.0), "{}", samples.text);
    ensure!(!text_is_pristine(wanted.pid())?, "there are no probes at all");
    ensure!(text_is_pristine(unwanted.pid())?);
    Ok(())
}

/// With room for one workload, the processes of the other are `other`: all goroutines are there, and one pid.
#[test]
fn workloads_past_the_limit_are_other() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let directory = tempdir()?;
    let args = ["-rate", "0", "-total", "5"];
    let _leaks = ["one-leak", "two-leak"]
        .iter()
        .map(|name| start_as(directory.path(), name, "leak", &args))
        .collect::<Result<Vec<_>>>()?;
    let options = ["--interval", "200ms", "--include", "process=(one|two)-leak", "--max-workloads", "1"];
    let serve = Serve::start(&options)?;
    let samples = serve.until("both", |samples| samples.sum("observer_goroutines", &[]) == Some(12.0))?;
    let other = [("process", "other"), ("unit", "other"), ("created_by", "other")];
    assert_eq!(samples.sum("observer_goroutines", &other), Some(6.0), "{}", samples.text);
    assert_eq!(samples.of("observer_target_info", &[]).count(), 1);
    assert_eq!(samples.sum("observer_targets", &[]), Some(2.0));
    ensure!(samples.sum("observer_workloads_folded_total", &[]) >= Some(1.0), "it isn't counted");
    Ok(())
}

/// SIGHUP reads the web configuration again; counters go on where they were. Every log line is one object.
#[test]
fn reloading_loses_no_counts() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let directory = tempdir()?;
    let config = directory.path().join("web.yml");
    fs::write(&config, "http_server_config:\n  headers:\n    X-Frame-Options: first\n")?;
    let _leak = start_as(directory.path(), "reload-leak", "leak", &["-rate", "20"])?;
    let path = config.display().to_string();
    let options = ["--interval", "200ms", "--include", "process=reload-leak", "--log.format", "json"];
    let serve = Serve::start(&[&options[..], &["--web.config.file", &path]].concat())?;
    let created = |samples: &observer_tests::metrics::Samples| {
        samples.sum("observer_goroutines_created_total", &[("process", "reload-leak")])
    };
    let before = created(&serve.until("counts", |samples| created(samples) > Some(20.0))?);
    let header = |value: &str| -> Result<()> {
        let line = format!("x-frame-options: {value}");
        wait::until(&line, || {
            // A moment later than a look at the file, so that the signal is what counts.
            signal(serve.pid(), Signal::SIGHUP);
            std::thread::sleep(Duration::from_millis(50));
            Ok(serve.get("/healthz")?.head.to_lowercase().contains(&line).then_some(()))
        })
    };
    header("first")?;
    fs::write(&config, "http_server_config:\n  headers:\n    X-Frame-Options: second\n")?;
    header("second")?;
    fs::write(&config, "nonsense: true\n")?;
    signal(serve.pid(), Signal::SIGHUP);
    header("second")?;
    ensure!(created(&serve.metrics()?) >= before, "counts were lost");
    let (status, log) = serve.end_by(Signal::SIGTERM)?;
    ensure!(status.success());
    let lines: Vec<Value> = log.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(
        lines.iter().any(|line| line["level"] == "ERROR" && line["message"].to_string().contains("nonsense"))
    );
    Ok(())
}

/// Options come from the environment, too, and the command line is stronger.
#[test]
fn options_from_the_environment() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let directory = tempdir()?;
    let _leak = start_as(directory.path(), "env-leak", "leak", &["-rate", "0", "-total", "5"])?;
    let serve = Serve::spawn(|address| {
        let mut command = observer::command(&["serve", "--interval", "200ms"])?;
        command.env("OBSERVER_WEB_LISTEN_ADDRESS", format!("{address},127.0.0.1:0"));
        command.env("OBSERVER_INTERVAL", "1h").env("OBSERVER_NO_PROBES", "true");
        command.env("OBSERVER_INCLUDE", "process=nobody\nprocess=env-leak");
        Ok(command)
    })?;
    let samples = serve.until("the leak", |samples| goroutines(samples, "env-leak") == Some(6.0))?;
    assert_eq!(samples.sum("observer_targets", &[]), Some(1.0));
    assert_eq!(samples.sum("observer_goroutines_created_total", &[]), None);
    Ok(())
}
