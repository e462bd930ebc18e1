//! As much of a Kubernetes API server as `kubectl apply --dry-run=client` asks for: which kinds there are, and that no object
//! of them is there yet. It checks nothing; schemas are for others.

use anyhow::Result;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

/// Starts it for kinds, each with its `apiVersion`; it answers until the test's process ends.
///
/// # Errors
/// When no port can be had.
pub fn start(kinds: &BTreeSet<(String, String)>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (address, answers) = (listener.local_addr()?, Arc::new(answers(kinds)));
    std::thread::spawn(move || {
        // One thread for each: a client may connect and never ask.
        for stream in listener.incoming().flatten() {
            let answers = answers.clone();
            std::thread::spawn(move || answer(stream, &answers));
        }
    });
    Ok(address)
}

/// By path.
fn answers(kinds: &BTreeSet<(String, String)>) -> BTreeMap<String, Value> {
    let mut answers = BTreeMap::from([(
        "/api".to_owned(),
        json!({"kind": "APIVersions", "apiVersion": "v1", "versions": ["v1"]}),
    )]);
    let mut groups = Vec::new();
    for version in kinds.iter().map(|(version, _)| version).collect::<BTreeSet<_>>() {
        let of_version = kinds.iter().filter(|(of, _)| of == version);
        let resources: Vec<Value> = of_version.map(|(_, kind)| resource(kind)).collect();
        let root = if version.contains('/') { "/apis" } else { "/api" };
        answers.insert(
            format!("{root}/{version}"),
            json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}),
        );
        if let Some((group, short)) = version.split_once('/') {
            let version = json!({"groupVersion": version, "version": short});
            groups.push(json!({"name": group, "versions": [version.clone()], "preferredVersion": version}));
        }
    }
    answers.insert("/apis".to_owned(), json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}));
    answers
}

fn resource(kind: &str) -> Value {
    let singular = kind.to_lowercase();
    let plural = singular.strip_suffix('y').map_or(format!("{singular}s"), |stem| format!("{stem}ies"));
    json!({
        "name": plural, "singularName": singular, "kind": kind, "namespaced": kind != "Namespace",
        "verbs": ["create", "get", "list", "patch"],
    })
}

/// Answers one request; a client that goes away is no matter.
fn answer(mut stream: TcpStream, answers: &BTreeMap<String, Value>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    lines.find(String::is_empty);
    let path = request.split(' ').nth(1).and_then(|target| target.split('?').next()).unwrap_or_default();
    let missing =
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
    let (status, body) = answers.get(path).map_or(("404 Not Found", &missing), |body| ("200 OK", body));
    let body = body.to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
