//! TLS: certificates, versions, and who may connect.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, NamedGroup, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion, version,
};
use serde::Deserialize;
use tokio_rustls::TlsAcceptor;

use super::file::Files;

/// `tls_server_config`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Section {
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    cert: Option<String>,
    key: Option<String>,
    client_auth_type: Option<String>,
    client_ca_file: Option<PathBuf>,
    client_ca: Option<String>,
    client_allowed_sans: Vec<String>,
    min_version: Option<String>,
    max_version: Option<String>,
    cipher_suites: Vec<String>,
    curve_preferences: Vec<String>,
    /// Taken because others have it: the server's order counts.
    #[serde(rename = "prefer_server_cipher_suites")]
    _prefer_server: Option<bool>,
}

/// What accepts connections as the section says.
///
/// # Errors
/// What is wrong, as the end of a sentence.
pub(super) fn acceptor(section: &Section, files: &mut Files<'_>) -> Result<TlsAcceptor, String> {
    let provider = Arc::new(provider(section)?);
    let versions = versions(section)?;
    let given = given(files, "cert", section.cert.as_deref(), section.cert_file.as_ref())?;
    let chain = certificates("cert", &given.ok_or("tls_server_config needs cert_file and key_file")?)?;
    let given = self::given(files, "key", section.key.as_deref(), section.key_file.as_ref())?;
    let key = PrivateKeyDer::from_pem_slice(&given.ok_or("tls_server_config needs cert_file and key_file")?)
        .map_err(|error| format!("key holds no private key in PEM: {error}"))?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(|error| format!("min_version, max_version and cipher_suites leave nothing: {error}"))?;
    let builder = match clients(section, provider, files)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| format!("cert and key can't be used together: {error}"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What is given as text or as a file, but not both.
fn given(
    files: &mut Files<'_>,
    key: &str,
    text: Option<&str>,
    file: Option<&PathBuf>,
) -> Result<Option<Vec<u8>>, String> {
    match (text, file) {
        (Some(_), Some(_)) => Err(format!("{key} and {key}_file are both given: leave one out")),
        (Some(text), None) => Ok(Some(text.as_bytes().to_vec())),
        (None, Some(file)) => files.named(file).map(Some),
        (None, None) => Ok(None),
    }
}

fn certificates(key: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(format!("{key} holds no certificate in PEM")),
        Err(error) => Err(format!("{key} is no PEM: {error}")),
    }
}

fn versions(section: &Section) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let rank = |key: &str, name: Option<&str>, otherwise| match name {
        None => Ok(otherwise),
        Some("TLS12") => Ok(0),
        Some("TLS13") => Ok(1),
        Some(other) => Err(format!("{key} `{other}` is not possible: choose TLS12 or TLS13")),
    };
    let min = rank("min_version", section.min_version.as_deref(), 0)?;
    let max = rank("max_version", section.max_version.as_deref(), 1)?;
    match [&version::TLS12, &version::TLS13].get(min..=max) {
        Some(versions) if !versions.is_empty() => Ok(versions.to_vec()),
        _ => Err("min_version is above max_version".to_owned()),
    }
}

fn provider(section: &Section) -> Result<CryptoProvider, String> {
    let mut provider = ring::default_provider();
    if !section.cipher_suites.is_empty() {
        let suites = provider.cipher_suites.clone();
        // Go's names have no version in them, and one of ChaCha20's suites has a second name.
        let name =
            |suite: &rustls::SupportedCipherSuite| format!("{:?}", suite.suite()).replace("TLS13", "TLS");
        let wanted = |asked: &String| {
            suites
                .iter()
                .find(|suite| name(suite) == *asked || name(suite) == format!("{asked}_SHA256"))
                .copied()
        };
        let found: Option<Vec<_>> = section.cipher_suites.iter().map(wanted).collect();
        provider.cipher_suites = found.ok_or_else(|| {
            let known: Vec<_> = suites.iter().map(name).collect();
            format!("cipher_suites may have {} only", known.join(", "))
        })?;
        // As in Go, the suites of TLS 1.3 can't be chosen.
        let of_13 = suites.into_iter().filter(|suite| suite.tls13().is_some());
        provider.cipher_suites.retain(|suite| suite.tls13().is_none());
        provider.cipher_suites.extend(of_13);
    }
    if !section.curve_preferences.is_empty() {
        let groups = provider.kx_groups.clone();
        let wanted = |asked: &String| {
            let group = match asked.as_str() {
                "X25519" => NamedGroup::X25519,
                "CurveP256" => NamedGroup::secp256r1,
                "CurveP384" => NamedGroup::secp384r1,
                _ => return None,
            };
            groups.iter().find(|known| known.name() == group).copied()
        };
        let found: Option<Vec<_>> = section.curve_preferences.iter().map(wanted).collect();
        provider.kx_groups =
            found.ok_or("curve_preferences may have X25519, CurveP256 and CurveP384 only")?;
    }
    Ok(provider)
}

/// Who checks clients; `None` when they need no certificate.
fn clients(
    section: &Section,
    provider: Arc<CryptoProvider>,
    files: &mut Files<'_>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let authorities =
        given(files, "client_ca", section.client_ca.as_deref(), section.client_ca_file.as_ref())?;
    let optional = match section.client_auth_type.as_deref().unwrap_or("NoClientCert") {
        "NoClientCert" if authorities.is_some() => {
            return Err("client_ca is given, but client_auth_type is NoClientCert: choose \
                        RequireAndVerifyClientCert"
                .to_owned());
        }
        "NoClientCert" => return Ok(None),
        "VerifyClientCertIfGiven" => true,
        "RequireAndVerifyClientCert" => false,
        other @ ("RequestClientCert" | "RequireAnyClientCert") => {
            return Err(format!(
                "client_auth_type {other} takes any certificate, which proves nothing: choose \
                 RequireAndVerifyClientCert or VerifyClientCertIfGiven"
            ));
        }
        other => {
            return Err(format!(
                "client_auth_type `{other}` is none of NoClientCert, VerifyClientCertIfGiven, \
                 RequireAndVerifyClientCert"
            ));
        }
    };
    let authorities = authorities.ok_or("client_auth_type needs client_ca_file")?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates("client_ca", &authorities)? {
        roots.add(certificate).map_err(|error| format!("client_ca can't be used: {error}"))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if optional { builder.allow_unauthenticated() } else { builder };
    let verifier = builder.build().map_err(|error| format!("client_ca can't be used: {error}"))?;
    if section.client_allowed_sans.is_empty() {
        return Ok(Some(verifier));
    }
    let allowed = section.client_allowed_sans.iter().map(|name| {
        ServerName::try_from(name.clone())
            .map_err(|_| format!("client_allowed_sans `{name}` is neither a DNS name nor an IP address"))
    });
    Ok(Some(Arc::new(Named { verifier, allowed: allowed.collect::<Result<_, _>>()? })))
}

/// Takes certificates that are valid and for one of some names.
#[derive(Debug)]
struct Named {
    verifier: Arc<dyn ClientCertVerifier>,
    allowed: Vec<ServerName<'static>>,
}

impl ClientCertVerifier for Named {
    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verifier.verify_client_cert(end_entity, intermediates, now)?;
        let certificate = ParsedCertificate::try_from(end_entity)?;
        if self.allowed.iter().any(|name| verify_server_name(&certificate, name).is_ok()) {
            Ok(verified)
        } else {
            Err(Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
