//! Web configurations as people write them, wrong ones too, and a server that is asked with TLS and passwords.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

use super::super::{HttpState, bind, serve};
use super::*;
use crate::export::testdata::view;

/// Cost 4, so that tests are quick. Of `secret`.
fn hash() -> String {
    bcrypt::hash("secret", 4).unwrap()
}

/// A folder with an authority, a certificate for localhost and one for a client.
struct Folder {
    folder: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Folder {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let new = Self { folder: tempfile::tempdir().unwrap(), authority };
        new.write("ca.pem", &new.authority.pem());
        new.certify("server", "localhost");
        new.certify("client", "prometheus.monitoring");
        new
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// Writes `NAME.pem` and `NAME.key`.
    fn certify(&self, name: &str, host: &str) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::DnsName(host.try_into().unwrap())];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn load(&self, text: &str) -> Result<Arc<WebConfig>, String> {
        WebConfig::load(Some(&self.write("web.yml", text))).map_err(|error| error.to_string())
    }

    /// A client that knows the authority, and shows a certificate if it has one.
    fn client(&self, certificate: Option<&str>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        match certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = vec![CertificateDer::from_pem_file(self.path(&format!("{name}.pem"))).unwrap()];
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        }
    }
}

const TLS: &str = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n";

/// A server in a thread of its own; dropping it stops it.
struct Server {
    address: SocketAddr,
    other: SocketAddr,
    web: watch::Receiver<Arc<WebConfig>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(config: Arc<WebConfig>) -> Self {
        let views = watch::Sender::new(Some(Arc::new(view())));
        let state = HttpState::new(views.subscribe(), Duration::from_secs(3600), "/metrics").unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (send, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let _views = views;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listeners = vec![bind("127.0.0.1:0").await.unwrap(), bind("127.0.0.1:0").await.unwrap()];
                let addresses: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
                // A signal that nothing else in this process uses.
                let web = watch_config(config, signal(SignalKind::user_defined2()).unwrap());
                send.send((addresses, web.clone())).unwrap();
                serve(listeners, web, state, async { _ = stopped.await }).await;
            });
        });
        let (addresses, web) = started.recv().unwrap();
        let (address, other) = (addresses[0], addresses[1]);
        Self { address, other, web, stop: Some(stop), thread: Some(thread) }
    }

    fn plain(&self, request: &str) -> String {
        exchange(&mut TcpStream::connect(self.address).unwrap(), request).unwrap()
    }

    /// The answer, or why there is none.
    fn tls(&self, client: ClientConfig, request: &str) -> std::io::Result<String> {
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut stream = StreamOwned::new(connection, TcpStream::connect(self.address).unwrap());
        exchange(&mut stream, request)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

fn exchange(stream: &mut (impl Read + Write), request: &str) -> std::io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n")
}

fn basic(user: &str, password: &str) -> String {
    format!("authorization: Basic {}\r\n", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

/// What Prometheus's documentation shows is understood; an empty file changes nothing.
#[test]
fn documented_configurations() {
    let folder = Folder::new();
    let empty = folder.load("").unwrap();
    assert!(empty.tls.is_none() && empty.users.is_empty());
    assert_eq!(empty.scheme(), "http");
    let text = format!(
        "{TLS}  client_auth_type: \"RequireAndVerifyClientCert\"\n  client_ca_file: ca.pem\n  \
         client_allowed_sans: [prometheus.monitoring]\n  min_version: TLS12\n  max_version: TLS13\n  \
         cipher_suites:\n    - TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\n    - \
         TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305\n  curve_preferences: [CurveP256, X25519]\n  \
         prefer_server_cipher_suites: true\nhttp_server_config:\n  http2: true\n  headers:\n    \
         X-Frame-Options: deny\n    Strict-Transport-Security: max-age=31536000\nbasic_auth_users:\n  alice: \
         {}\n",
        hash()
    );
    let full = folder.load(&text).unwrap();
    assert_eq!(full.scheme(), "https");
    assert_eq!((full.headers.len(), full.users.len()), (2, 1));
}

/// What is wrong is said in one sentence that names the file and the place.
#[test]
fn wrong_configurations() {
    let folder = Folder::new();
    let wrong = [
        ("tls_server_conf: {}", "tls_server_conf"),
        ("tls_server_config:\n  cert_fil: x\n", "cert_fil"),
        ("basic_auth_users:\n  alice: plaintext\n", "\"alice\" in basic_auth_users is no bcrypt hash"),
        ("http_server_config:\n  headers:\n    X-Other: a\n", "X-Other"),
        ("http_server_config:\n  headers:\n    X-Frame-Options: \"a\\nb\"\n", "x-frame-options"),
        ("tls_server_config: {}", "needs cert_file"),
        (
            "tls_server_config:\n  cert_file: missing.pem\n  key_file: server.key\n",
            "missing.pem can't be read",
        ),
        ("tls_server_config:\n  cert_file: server.key\n  key_file: server.key\n", "no certificate in PEM"),
        ("tls_server_config:\n  cert_file: server.pem\n  key_file: client.key\n", "can't be used together"),
        (&format!("{TLS}  min_version: TLS10\n"), "choose TLS12 or TLS13"),
        (&format!("{TLS}  min_version: TLS13\n  max_version: TLS12\n"), "min_version is above max_version"),
        (&format!("{TLS}  cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]\n"), "cipher_suites may have"),
        (&format!("{TLS}  curve_preferences: [CurveP521]\n"), "curve_preferences may have"),
        (&format!("{TLS}  client_auth_type: RequireAnyClientCert\n"), "proves nothing"),
        (&format!("{TLS}  client_auth_type: Maybe\n"), "`Maybe` is none of"),
        (&format!("{TLS}  client_auth_type: RequireAndVerifyClientCert\n"), "needs client_ca_file"),
        (&format!("{TLS}  client_ca_file: ca.pem\n"), "client_auth_type is NoClientCert"),
        (&format!("{TLS}  cert: x\n"), "both given"),
        ("a: &a [x,x,x,x]\nb: [*a", "at"),
        ("[1, 2", "at"),
    ];
    for (text, part) in wrong {
        let Err(sentence) = folder.load(text) else { panic!("{text} was taken") };
        assert!(sentence.contains(part) && sentence.contains("web.yml"), "{text}: {sentence}");
        assert_eq!(sentence.lines().count(), 1, "{sentence}");
    }
    let missing = WebConfig::load(Some(&folder.path("none.yml"))).err().unwrap().to_string();
    assert!(missing.contains("none.yml") && missing.contains("can't be read"), "{missing}");
}

/// With users in the file metrics need the right password, health does not, and headers are on all answers.
#[test]
fn passwords_and_headers() {
    let folder = Folder::new();
    let text = format!(
        "http_server_config:\n  headers:\n    X-Frame-Options: deny\nbasic_auth_users:\n  alice: {}\n",
        hash()
    );
    let server = Server::start(folder.load(&text).unwrap());
    let right = basic("alice", "secret");
    for _ in 0..2 {
        let answer = server.plain(&get("/metrics", &right));
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("observer_goroutines{"), "{answer}");
    }
    let malformed = ["", "authorization: Basic !!!\r\n", "authorization: Bearer x\r\n"].map(str::to_owned);
    let wrong = [basic("alice", "guess"), basic("bob", "secret"), basic("alice", ""), basic("", "")];
    for headers in malformed.into_iter().chain(wrong) {
        for path in ["/metrics", "/", "/nowhere"] {
            let answer = server.plain(&get(path, &headers)).to_lowercase();
            assert!(answer.starts_with("http/1.1 401"), "{headers} {path}: {answer}");
            assert!(answer.contains("www-authenticate: basic") && answer.contains("x-frame-options: deny"));
            assert!(!answer.contains("observer_goroutines{"));
        }
    }
    for path in ["/healthz", "/readyz"] {
        assert!(server.plain(&get(path, "")).starts_with("HTTP/1.1 200"), "{path}");
    }
    assert!(server.plain(&get("/metrics", &right)).starts_with("HTTP/1.1 200"));
}

/// Every address serves; over TLS nothing is answered in plain text.
#[test]
fn tls_and_several_addresses() {
    let folder = Folder::new();
    let server = Server::start(folder.load(TLS).unwrap());
    let answer = server.tls(folder.client(None), &get("/metrics", "")).unwrap();
    assert!(answer.contains("observer_goroutines{"), "{answer}");
    let mut plain = TcpStream::connect(server.other).unwrap();
    let refused = exchange(&mut plain, &get("/metrics", ""));
    assert!(refused.is_err() || !refused.unwrap().contains("HTTP/1.1 200"));
}

/// A client without a certificate, with one of a stranger, or with the wrong name is not served; the right one
/// is.
#[test]
fn client_certificates() {
    let folder = Folder::new();
    let text = format!(
        "{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n  \
         client_allowed_sans: [prometheus.monitoring]\n"
    );
    let server = Server::start(folder.load(&text).unwrap());
    let request = get("/metrics", "");
    let served = |client| server.tls(client, &request).is_ok_and(|answer| answer.contains("200 OK"));
    assert!(served(folder.client(Some("client"))));
    assert!(!served(folder.client(None)));
    folder.certify("other", "other.monitoring");
    assert!(!served(folder.client(Some("other"))));
    let stranger = Folder::new();
    let mut forged = stranger.client(Some("client"));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.path("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let resolver = forged.client_auth_cert_resolver.clone();
    forged = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(resolver);
    assert!(!served(forged));
}

/// A file that changes is read again; one that can't be used leaves the former in force.
#[test]
fn changes_come_into_force() {
    let folder = Folder::new();
    let user = format!("basic_auth_users:\n  alice: {}\n", hash());
    let server = Server::start(folder.load(&user).unwrap());
    let status = |server: &Server| server.plain(&get("/metrics", ""))[9..12].to_owned();
    assert_eq!(status(&server), "401");
    let wait = |server: &mut Server| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(server.web.changed()).unwrap();
    };
    let mut server = server;
    server.web.mark_unchanged();
    folder.write("web.yml", "http_server_config: {}\n");
    wait(&mut server);
    assert_eq!(status(&server), "200");
    // The certificate counts as well, and is taken for the next connection.
    folder.write("web.yml", TLS);
    wait(&mut server);
    assert!(server.tls(folder.client(None), &get("/metrics", "")).is_ok());
    let before = server.web.borrow().clone();
    folder.write("server.pem", "no certificate");
    let error = WebConfig::load(Some(&folder.path("web.yml"))).err().unwrap().to_string();
    assert!(error.contains("no certificate in PEM"), "{error}");
    folder.certify("server", "localhost");
    wait(&mut server);
    assert!(!Arc::ptr_eq(&before, &server.web.borrow().clone()));
    assert!(server.tls(folder.client(None), &get("/metrics", "")).is_ok());
}
