//! A node as in a cluster: containerd with pods, a unit and a bare process, the observer from its image with the
//! privileges of its manifest, and a Prometheus with the shipped rules.

use anyhow::{Context, Result, ensure};
use observer_tests::build::{Variant, build};
use observer_tests::containerd::{Containerd, Pod};
use observer_tests::cri::Resources;
use observer_tests::gate::{Need, have};
use observer_tests::go::Go;
use observer_tests::manifest::DaemonSet;
use observer_tests::metrics::Samples;
use observer_tests::serve::Machine;
use observer_tests::{http, observer, wait};
use std::net::TcpListener;

/// What every test here needs.
const NEEDS: [Need; 5] =
    [Need::Root, Need::Compiler, Need::Command("containerd"), Need::Command("runc"), Need::StaticObserver];

const IMAGE: &str = "localhost/observer:test";

/// The observer in its pod.
struct Agent {
    address: String,
}

impl Agent {
    /// Starts the observer from its image, as the manifest says, with more arguments.
    fn start(containerd: &mut Containerd, more: &[&str]) -> Result<Self> {
        let manifest = DaemonSet::read()?;
        containerd.import_program(IMAGE, &observer::binary()?)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut args = manifest.args()?;
        args.extend(["--web.listen-address".to_owned(), address.clone()]);
        args.extend(more.iter().map(ToString::to_string));
        let pod = Pod {
            namespace: "observer",
            name: "observer-x7k2p",
            container: "observer",
            image: IMAGE,
            args,
            capabilities: Some(manifest.capabilities()?),
            host_pid: manifest.host_pid(),
            mounts: manifest.mounts(&containerd.socket())?,
            ..Pod::default()
        };
        containerd.run(&pod)?;
        let agent = Self { address };
        let ready = wait::until("/readyz", || Ok(agent.get("/readyz").ok().filter(|one| one.status == 200)));
        ready.with_context(|| containerd.log(&pod).unwrap_or_default())?;
        Ok(agent)
    }

    fn get(&self, path: &str) -> Result<http::Response> {
        http::request(
            &self.address,
            &format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"),
        )
    }

    fn metrics(&self) -> Result<Samples> {
        Samples::parse(&self.get("/metrics")?.body)
    }
}

/// With the manifest's privileges, and no others, everything works that works for root.
#[test]
fn the_manifests_privileges_suffice() -> Result<()> {
    if !have(&NEEDS) {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let mut containerd = Containerd::start()?;
    containerd.import_program("localhost/leak:1", &build("leak", Go::USUAL, Variant::Static)?)?;
    containerd.run(&Pod {
        namespace: "shop",
        name: "cart-0",
        container: "cart",
        image: "localhost/leak:1",
        args: vec!["-rate".into(), "20".into()],
        resources: Resources { memory_limit: 256 << 20, ..Resources::default() },
        ..Pod::default()
    })?;
    let agent = Agent::start(&mut containerd, &["--interval", "500ms"])?;
    let samples = wait::until("probes in the container", || {
        Ok(Some(agent.metrics()?).filter(|samples| {
            let entry = ("entry", "main.(*Reconciler).reconcile.func1");
            samples.sum("observer_goroutines_created_total", &[entry]).is_some_and(|n| n > 10.0)
        }))
    })?;
    for feature in samples.of("observer_feature_enabled", &[]) {
        ensure!(feature.value == 1.0, "{feature:?}");
    }
    Ok(())
}
