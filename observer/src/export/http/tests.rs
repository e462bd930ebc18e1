//! A real server on a real port, and clients that write bytes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;

use flate2::read::GzDecoder;
use tokio::sync::oneshot;

use super::profiles::{Access, Refusal, Take};
use super::*;
use crate::export::metrics::expose;
use crate::export::profile::Format;
use crate::export::testdata::view;

/// How long a client waits for what must come before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3600);
const PATIENT: Limits = Limits { header: NEVER, connection: NEVER, ..Limits::DEFAULT };

/// A server in a thread of its own; dropping it stops it.
struct Server {
    address: SocketAddr,
    views: watch::Sender<Option<Arc<View>>>,
    rendered: Arc<Mutex<Option<render::Rendered>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(first: Option<View>, interval: Duration, limits: Limits) -> Self {
        let views = watch::Sender::new(first.map(Arc::new));
        Self::run(views, interval, limits, Profiles::off())
    }

    fn with_profiles(take: Arc<Take>) -> Self {
        Self::run(
            watch::Sender::new(Some(Arc::new(view()))),
            NEVER,
            PATIENT,
            Profiles::new(Access::Loopback, take),
        )
    }

    fn run(
        views: watch::Sender<Option<Arc<View>>>,
        interval: Duration,
        limits: Limits,
        profiles: Profiles,
    ) -> Self {
        let state = HttpState::new(views.subscribe(), interval, "/metrics").unwrap();
        let mut state = state.with_profiles(profiles);
        state.limits = limits;
        let rendered = state.rendered.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let (send_address, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = bind("127.0.0.1:0").await.unwrap();
                send_address.send(listener.local_addr().unwrap()).unwrap();
                let web = watch::Sender::new(Arc::new(WebConfig::default())).subscribe();
                serve(vec![listener], web, state, async { _ = stopped.await }).await;
            });
        });
        let address = address.recv().unwrap();
        Self { address, views, rendered, stop: Some(stop), thread: Some(thread) }
    }

    fn with_view() -> Self {
        Self::start(Some(view()), NEVER, Limits::DEFAULT)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn send(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        Answer::read(stream)
    }

    fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
    }

    fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a complete header") + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        Self { status: head[9..12].parse().unwrap(), head, body: bytes[end..].to_vec() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Whether the server ends the connection without an answer; fails when it does neither for a minute.
fn is_closed(mut stream: TcpStream) -> bool {
    match stream.read(&mut [0; 1]) {
        Ok(count) => count == 0,
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => true,
        Err(error) => panic!("{error}"),
    }
}

/// Asks again until there is an answer; fails when there is none for a minute.
fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}

/// A scrape gives the exposition of the view in force, with the content type that Prometheus asks for.
#[test]
fn scrape() {
    let server = Server::with_view();
    let answer = server.get("/metrics");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.text(), expose(&view()).unwrap());
    server.stop();
}

/// A new view is in the next scrape: the rendered text of the old one isn't used again.
#[test]
fn scrape_shows_the_latest_view() {
    let server = Server::with_view();
    assert!(server.get("/metrics").text().contains("process_open_fds 42\n"));
    let mut newer = view();
    newer.observer.open_fds = 43;
    server.views.send_replace(Some(Arc::new(newer)));
    assert!(server.get("/metrics").text().contains("process_open_fds 43\n"));
}

/// gzip is sent to those who accept it, holds the same text, also after a plain scrape of the same view.
#[test]
fn gzip() {
    let server = Server::with_view();
    let plain = server.get("/metrics");
    let request = "GET /metrics HTTP/1.1\r\nhost: test\r\naccept-encoding: gzip\r\n\r\n";
    for _ in 0..2 {
        let answer = server.send(request);
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        assert!(answer.body.len() < plain.body.len() / 2);
        let mut text = String::new();
        GzDecoder::new(&answer.body[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, plain.text());
    }
}

/// HEAD has the header of GET, with the length, and no body.
#[test]
fn head() {
    let server = Server::with_view();
    let answer = server.send("HEAD /metrics HTTP/1.1\r\nhost: test\r\n\r\n");
    let length = expose(&view()).unwrap().len().to_string();
    assert_eq!((answer.status, answer.header("content-length")), (200, Some(&*length)));
    assert!(answer.body.is_empty());
}

/// Other methods are refused on every path, with or without a body; other paths aren't there.
#[test]
fn other_methods_and_paths() {
    let server = Server::with_view();
    for path in ["/", "/metrics", "/healthz", "/readyz"] {
        let post = format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello");
        let answer = server.send(&post);
        assert_eq!((answer.status, answer.header("allow")), (405, Some("get,head")), "{path}");
        assert_eq!(server.send(&format!("DELETE {path} HTTP/1.1\r\nhost: test\r\n\r\n")).status, 405);
    }
    for path in ["/metrics/", "/metrics2", "/../etc/passwd", "/debug/pprof"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
}

/// Before the first view: alive, not ready and without metrics, each said in a sentence.
#[test]
fn before_the_first_view() {
    let server = Server::start(None, NEVER, Limits::DEFAULT);
    assert_eq!(server.get("/healthz").status, 200);
    for path in ["/readyz", "/metrics"] {
        let answer = server.get(path);
        assert_eq!(answer.status, 503, "{path}");
        assert!(answer.text().contains("no view yet"), "{path}");
    }
    assert!(server.get("/").text().contains("No view yet"));
    server.views.send_replace(Some(Arc::new(view())));
    assert_eq!(server.get("/metrics").status, 200);
    // The server notes the arrival a moment after it.
    eventually(|| (server.get("/readyz").status == 200).then_some(()));
}

/// When no views come any more the observer stops being ready, says why, and stays alive.
#[test]
fn late_views() {
    let server = Server::start(Some(view()), Duration::from_millis(1), Limits::DEFAULT);
    let answer = eventually(|| Some(server.get("/readyz")).filter(|answer| answer.status != 200));
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("more than 3 intervals"), "{}", answer.text());
    assert_eq!(server.get("/healthz").status, 200);
}

/// The landing page links to the metrics and shows what grows, and no script may run on it.
#[test]
fn landing_page() {
    let server = Server::with_view();
    let answer = server.get("/");
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(answer.header("content-security-policy").is_some_and(|policy| policy.contains("'none'")));
    assert!(answer.text().contains("href=\"/metrics\"") && answer.text().contains("reconcile.func1"));
}

/// A connection serves one request: the second on it isn't answered.
#[test]
fn connections_are_not_kept() {
    let server = Server::with_view();
    let answer = server.send(&"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n".repeat(2));
    assert_eq!((answer.header("connection"), answer.text()), (Some("close"), "ok\n"));
}

/// A client that never finishes its header is cut off.
#[test]
fn slow_header() {
    let limits = Limits { header: Duration::from_millis(50), connection: NEVER, ..Limits::DEFAULT };
    let server = Server::start(Some(view()), NEVER, limits);
    let mut stream = server.connect();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost:").unwrap();
    assert!(is_closed(stream));
    assert!(is_closed(server.connect()), "a client that sends nothing");
}

/// A connection ends at its deadline, whatever it is doing.
#[test]
fn connection_deadline() {
    let limits = Limits { header: NEVER, connection: Duration::from_millis(50), ..Limits::DEFAULT };
    let server = Server::start(Some(view()), NEVER, limits);
    let mut stream = server.connect();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost:").unwrap();
    assert!(is_closed(stream));
}

/// A header larger than the limit is refused without being read to its end.
#[test]
fn oversized_header() {
    let server = Server::start(Some(view()), NEVER, PATIENT);
    let mut stream = server.connect();
    // No end of header: the server must decide by itself. It may close before all is written.
    _ = stream.write_all(format!("GET / HTTP/1.1\r\nx: {}", "a".repeat(16 * 1024 + 1)).as_bytes());
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{answer:?}"),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
    assert_eq!(server.get("/healthz").status, 200);
}

/// Bytes that aren't HTTP get an error and end their own connection only.
#[test]
fn not_http() {
    let server = Server::with_view();
    assert_eq!(server.send("\u{16}\u{3}\u{1}hello\r\n\r\n").status, 400);
    assert_eq!(server.get("/healthz").status, 200);
}

/// Of 1 000 idle connections the last 64 are held, the others closed, and a scraper is answered at once.
#[test]
fn idle_connections() {
    let server = Server::start(Some(view()), NEVER, PATIENT);
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(server.connect());
    }
    assert_eq!(server.get("/metrics").status, 200);
    // The scrape took the place of one.
    let held = idle.split_off(1000 - (Limits::DEFAULT.connections - 1));
    for closed in idle {
        assert!(is_closed(closed));
    }
    for held in &held {
        held.set_nonblocking(true).unwrap();
        let error = (&mut &*held).read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "a connection within the limit was closed");
    }
}

/// A request that is being answered doesn't give way to idle connections.
#[test]
fn busy_connections_stay() {
    let server = Server::start(Some(view()), NEVER, PATIENT);
    // A scrape waits for this lock, and holds the view while it does.
    let lock = server.rendered.clone().try_lock_owned().unwrap();
    let latest = server.views.borrow().clone().unwrap();
    let users = Arc::strong_count(&latest);
    let mut scrape = server.connect();
    scrape.write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    eventually(|| (Arc::strong_count(&latest) > users).then_some(()));
    let idle: Vec<_> = (0..200).map(|_| server.connect()).collect();
    assert_eq!(server.get("/healthz").status, 200);
    drop((lock, idle));
    assert_eq!(Answer::read(scrape).status, 200);
}

/// On shutdown the port is closed, idle connections end, and a request that is under way is still answered.
#[test]
fn shutdown() {
    let server = Server::start(Some(view()), NEVER, PATIENT);
    let address = server.address;
    let idle = server.connect();
    // A scrape waits for this lock, and holds the view while it does.
    let lock = server.rendered.clone().try_lock_owned().unwrap();
    let latest = server.views.borrow().clone().unwrap();
    let users = Arc::strong_count(&latest);
    let mut scrape = server.connect();
    scrape.write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    eventually(|| (Arc::strong_count(&latest) > users).then_some(()));
    let client = std::thread::spawn(move || {
        assert!(is_closed(idle), "an idle connection survived the shutdown");
        drop(lock);
        Answer::read(scrape).status
    });
    server.stop();
    assert_eq!(client.join().unwrap(), 200);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

/// An address that is taken, and one that isn't an address, give one sentence that names the option.
#[test]
fn bind_errors_say_what_to_do() {
    let server = Server::with_view();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for address in [server.address.to_string(), "nonsense".to_owned(), ":99999".to_owned()] {
        let sentence = runtime.block_on(bind(&address)).unwrap_err().to_string();
        assert!(sentence.contains(&address) && sentence.contains("--web.listen-address"), "{sentence}");
        assert_eq!(sentence.lines().count(), 1);
    }
}

/// `:PORT` listens on every address, IPv4 included.
#[test]
fn bind_to_every_address() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(bind(":0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
}

/// Only a plain path that the observer doesn't use itself can be the path of the metrics.
#[test]
fn telemetry_path_is_checked() {
    let views = watch::Sender::new(None);
    let state = |path| HttpState::new(views.subscribe(), NEVER, path);
    for path in ["", "metrics", "/", "/healthz", "/readyz", "/{a}", "/{*a}", "/:a", "/a b", "/é", "/a?b"] {
        let sentence = state(path).unwrap_err().to_string();
        assert!(sentence.contains("--web.telemetry-path"), "{sentence}");
    }
    for path in ["/metrics", "/a/b-c_d.e~f", "//", "/metrics/"] {
        _ = routes::router(state(path).unwrap(), watch::Sender::new(Arc::default()).subscribe());
    }
}

/// Profiles have the types and names that Go's own handler gives them.
#[test]
fn profiles_answer_as_go_does() {
    let take = |pid: u32, format: Format, out: &mut dyn io::Write| Ok(write!(out, "{pid} {format:?}")?);
    let server = Server::with_profiles(Arc::new(take));
    for (debug, kind, body) in [
        ("", "application/octet-stream", "pprof"),
        ("&debug=0", "application/octet-stream", "pprof"),
        ("&debug=x", "application/octet-stream", "pprof"),
        ("&debug=1", "text/plain; charset=utf-8", "debug1"),
        ("&debug=2", "text/plain; charset=utf-8", "debug2"),
        ("&debug=3", "text/plain; charset=utf-8", "debug2"),
    ] {
        let answer = eventually(|| {
            let answer = server.get(&format!("/debug/pprof/goroutine?pid=7{debug}"));
            (answer.status != 429).then_some(answer)
        });
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{debug}");
        let attached = answer.header("content-disposition") == Some("attachment; filename=\"goroutine\"");
        assert_eq!(attached, body == "pprof", "{debug}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert!(answer.text().to_lowercase().contains(&format!("7 {body}")), "{debug}: {}", answer.text());
    }
    for path in ["", "?pid=", "?pid=-1", "?pid=4294967296", "?pid=1&seconds=5", "?debug=2"] {
        assert_eq!(server.get(&format!("/debug/pprof/goroutine{path}")).status, 400, "{path}");
    }
}

/// Why there is no profile is told in one line; one that breaks off has no end that could be taken for its.
#[test]
fn profiles_that_fail() {
    let take = |pid: u32, _: Format, out: &mut dyn io::Write| match pid {
        1 => Err(Refusal::NoProcess("none".to_owned())),
        2 => Err(Refusal::NotATarget("foreign".to_owned())),
        3 => {
            out.write_all(b"lost")?;
            Err(Refusal::Interrupted("gone".to_owned()))
        }
        4 => panic!("on purpose"),
        _ => {
            out.write_all(&[b'x'; 1 << 20])?;
            Err(Refusal::Interrupted("gone".to_owned()))
        }
    };
    let server = Server::with_profiles(Arc::new(take));
    for (pid, status, text) in
        [(1, 404, "none\n"), (2, 422, "foreign\n"), (3, 504, "gone\n"), (4, 500, "report it\n")]
    {
        let answer = eventually(|| {
            let answer = server.get(&format!("/debug/pprof/goroutine?pid={pid}"));
            (answer.status != 429).then_some(answer)
        });
        assert_eq!(answer.status, status);
        assert!(answer.text().ends_with(text) && answer.text().lines().count() == 1, "{}", answer.text());
    }
    let broken = eventually(|| {
        let answer = server.get("/debug/pprof/goroutine?pid=5&debug=2");
        (answer.status != 429).then_some(answer)
    });
    assert_eq!(broken.status, 200);
    assert!(!broken.body.is_empty() && !broken.body.ends_with(b"0\r\n\r\n"));
}

/// While one profile is taken a second one is refused, and the rest of the server answers.
#[test]
fn one_profile_at_a_time() {
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let (begun, begin) = std::sync::mpsc::channel::<()>();
    let take = move |_: u32, _: Format, out: &mut dyn io::Write| {
        begun.send(()).unwrap();
        gate.lock().unwrap().recv().unwrap();
        Ok(out.write_all(b"done")?)
    };
    let server = Server::with_profiles(Arc::new(take));
    let path = "/debug/pprof/goroutine?pid=1&debug=1";
    std::thread::scope(|scope| {
        let first = scope.spawn(|| server.get(path));
        begin.recv().unwrap();
        let second = server.get(path);
        assert_eq!((second.status, second.header("retry-after")), (429, Some("1")));
        assert_eq!(server.get("/metrics").status, 200);
        assert_eq!(server.get("/readyz").status, 200);
        release.send(()).unwrap();
        assert!(first.join().unwrap().text().contains("done"));
    });
}

/// Profiles are for this machine unless told otherwise, by whatever way a client comes.
#[test]
fn profiles_are_not_for_all() {
    let profiles = |access| Profiles::new(access, Arc::new(|_, _, _| Ok(())));
    let headers = |host: &'static str| {
        axum::http::HeaderMap::from_iter([(axum::http::header::HOST, host.parse().unwrap())])
    };
    let refuses =
        |access, peer: &str, host| profiles(access).refuses(peer.parse().unwrap(), &headers(host)).is_some();
    for peer in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
        assert!(!refuses(Access::Loopback, peer, "localhost:9764"), "{peer}");
        assert!(refuses(Access::Loopback, peer, "attacker.example:9764"), "{peer}");
        assert!(refuses(Access::Off, peer, "localhost"), "{peer}");
    }
    for peer in ["10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "0.0.0.0"] {
        assert!(refuses(Access::Loopback, peer, "localhost"), "{peer}");
        assert!(!refuses(Access::All, peer, "node.example"), "{peer}");
    }
}
