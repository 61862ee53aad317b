//! TLS by rustls, from the files in the settings, with errors that name the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme, WantsVersions,
};

use crate::settings::consul::ClientTls;

/// The reason why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct Error {
    path: PathBuf,
    why: String,
}

impl Error {
    fn new(path: &Path, why: impl ToString) -> Self {
        Self { path: path.into(), why: why.to_string() }
    }
}

/// Returns the configuration of a client of Consul.
pub fn client(tls: &ClientTls) -> Result<Arc<ClientConfig>, Error> {
    let builder = versions(ClientConfig::builder_with_provider(provider()));
    let builder = if tls.verify {
        builder.with_root_certificates(roots(tls)?)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Accept::Anything))
    };
    let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else {
        return Ok(Arc::new(builder.with_no_client_auth()));
    };
    let config = builder.with_client_auth_cert(certificates(cert)?, private_key(key)?);
    config.map(Arc::new).map_err(|why| pair(cert, key, &why))
}

/// Returns the configuration of a client that accepts only the certificate in this file, of a server on the
/// same machine.
pub fn client_of(cert: &Path) -> Result<Arc<ClientConfig>, Error> {
    let only = certificates(cert)?.swap_remove(0);
    let builder = versions(ClientConfig::builder_with_provider(provider()));
    let builder =
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Accept::Only(only)));
    Ok(Arc::new(builder.with_no_client_auth()))
}

/// Returns the configuration of a client that only tests whether a server responds.
pub fn client_of_anybody() -> Arc<ClientConfig> {
    let builder = versions(ClientConfig::builder_with_provider(provider()));
    let anybody = Arc::new(Accept::Anything);
    let builder = builder.dangerous().with_custom_certificate_verifier(anybody);
    Arc::new(builder.with_no_client_auth())
}

/// Returns the configuration of a server.
pub fn server(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, Error> {
    let builder = versions(ServerConfig::builder_with_provider(provider())).with_no_client_auth();
    let config = builder.with_single_cert(certificates(cert)?, private_key(key)?);
    config.map(Arc::new).map_err(|why| pair(cert, key, &why))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::ring::default_provider())
}

fn versions<S: rustls::ConfigSide>(
    builder: ConfigBuilder<S, WantsVersions>,
) -> ConfigBuilder<S, rustls::WantsVerifier> {
    builder.with_safe_default_protocol_versions().expect("ring has suites for every version")
}

fn pair(cert: &Path, key: &Path, why: &rustls::Error) -> Error {
    Error::new(cert, format!("{why} (its key is {})", key.display()))
}

/// Reads the certificates of a file; at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(found) if found.is_empty() => Err(Error::new(path, "there is no PEM certificate in it")),
        Ok(found) => Ok(found),
        Err(why) => Err(Error::new(path, why)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_file(path).map_err(|why| Error::new(path, why))
}

/// Returns the configured certificate authorities, or else those of the machine.
fn roots(tls: &ClientTls) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let mut files: Vec<PathBuf> = tls.ca_file.iter().cloned().collect();
    if let Some(dir) = &tls.ca_dir {
        let entries = std::fs::read_dir(dir).map_err(|why| Error::new(dir, why))?;
        let entries = entries.collect::<Result<Vec<_>, _>>().map_err(|why| Error::new(dir, why))?;
        let pem = |path: &PathBuf| path.extension().is_some_and(|e| e == "pem" || e == "crt");
        let before = files.len();
        files.extend(entries.iter().map(std::fs::DirEntry::path).filter(pem));
        if files.len() == before {
            return Err(Error::new(dir, "there is no .pem or .crt file in it"));
        }
    }
    for path in &files {
        for cert in certificates(path)? {
            roots.add(cert).map_err(|why| Error::new(path, why))?;
        }
    }
    if files.is_empty() {
        // Unreadable certificates of the machine's store are skipped: they are not trusted.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    Ok(roots)
}

/// The accepted certificates without an authority. The peer always has to prove that it has the certificate's
/// key.
#[derive(Debug)]
enum Accept {
    Anything,
    Only(CertificateDer<'static>),
}

impl ServerCertVerifier for Accept {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self {
            Self::Only(cert) if cert != end_entity => {
                Err(rustls::CertificateError::ApplicationVerificationFailure.into())
            }
            Self::Anything | Self::Only(_) => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = provider().signature_verification_algorithms;
        crypto::verify_tls12_signature(message, cert, signed, &known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = provider().signature_verification_algorithms;
        crypto::verify_tls13_signature(message, cert, signed, &known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
