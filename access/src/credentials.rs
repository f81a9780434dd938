//! The folder of a name: its certificate and key, the authority's certificate, and its token.

use crate::name::names;
use crate::{BadToken, Token};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

/// The authority's certificate.
pub const AUTHORITY_FILE: &str = "ca.pem";
/// The name's own certificate.
pub const CERTIFICATE_FILE: &str = "cert.pem";
/// Its private key.
pub const KEY_FILE: &str = "key.pem";
/// Its token.
pub const TOKEN_FILE: &str = "token";

/// No such file is longer.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// From the first byte to the end of the handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Why credentials cannot be used.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("{file}: {source}; `alpharho certs issue NAME` makes a folder of credentials", file = file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A secret is open to everybody on this machine.
    #[error("{file} can be read by everybody on this machine; close it with: chmod 600 {file}", file = file.display())]
    Open {
        /// Which.
        file: PathBuf,
    },
    /// It holds something else.
    #[error("{file}: {source}", file = file.display())]
    Token {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        source: BadToken,
    },
    /// It holds something else.
    #[error("{file} holds no certificate", file = file.display())]
    Certificate {
        /// Which.
        file: PathBuf,
    },
    /// It is not for listening.
    #[error(
        "the certificate in {folder} names no host, so nobody would believe who listens with it; make one that does: \
         alpharho certs issue NAME --host NAME-OR-ADDRESS", folder = folder.display()
    )]
    NoHost {
        /// Of the certificate.
        folder: PathBuf,
    },
}

/// What a name shows, read from its folder. Never printed.
#[derive(Clone)]
pub struct Credentials {
    folder: PathBuf,
    authority_pem: Vec<u8>,
    certificate_pem: Vec<u8>,
    key_pem: Vec<u8>,
    token: Option<Token>,
}

impl Credentials {
    /// Reads a folder. A token need not be there: a coordinator that listens shows none.
    ///
    /// # Errors
    /// When a file is missing, or a secret can be read by everybody.
    pub fn read(folder: &Path) -> Result<Self, CredentialsError> {
        let read = |name: &str| read_file(&folder.join(name)).map(|(bytes, _)| bytes);
        let credentials = Self {
            folder: folder.to_owned(),
            authority_pem: read(AUTHORITY_FILE)?,
            certificate_pem: read(CERTIFICATE_FILE)?,
            key_pem: read_secret(&folder.join(KEY_FILE))?,
            token: read_token(folder)?,
        };
        credentials.certificate()?;
        Ok(credentials)
    }

    /// Where they were read.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What to show, if there is one.
    #[must_use]
    pub fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// How to listen: nobody gets in without a certificate of the same authority.
    ///
    /// # Errors
    /// When the certificate is not one to listen with.
    pub fn to_listen(&self) -> Result<ServerTlsConfig, CredentialsError> {
        // Every certificate for listening names this machine as it calls itself.
        if !names(&self.certificate()?, "localhost") {
            return Err(CredentialsError::NoHost { folder: self.folder.clone() });
        }
        let authority = Certificate::from_pem(&self.authority_pem);
        Ok(ServerTlsConfig::new().identity(self.identity()).client_ca_root(authority).timeout(HANDSHAKE_MAX))
    }

    /// How to call that host.
    #[must_use]
    pub fn to_call(&self, host: &str) -> ClientTlsConfig {
        let authority = Certificate::from_pem(&self.authority_pem);
        let tls = ClientTlsConfig::new().ca_certificate(authority).identity(self.identity()).timeout(HANDSHAKE_MAX);
        // An address of version 6 stands in brackets in a URL, and without them in a certificate.
        tls.domain_name(host.trim_start_matches('[').trim_end_matches(']'))
    }

    fn identity(&self) -> Identity {
        Identity::from_pem(&self.certificate_pem, &self.key_pem)
    }

    fn certificate(&self) -> Result<CertificateDer<'static>, CredentialsError> {
        let wrong = |_| CredentialsError::Certificate { file: self.folder.join(CERTIFICATE_FILE) };
        CertificateDer::from_pem_slice(&self.certificate_pem).map_err(wrong)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The token in a folder, if there is one.
pub(crate) fn read_token(folder: &Path) -> Result<Option<Token>, CredentialsError> {
    let file = folder.join(TOKEN_FILE);
    let bytes = match read_secret(&file) {
        Err(CredentialsError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let token = String::from_utf8_lossy(&bytes).parse();
    token.map(Some).map_err(|source| CredentialsError::Token { file, source })
}

fn read_secret(file: &Path) -> Result<Vec<u8>, CredentialsError> {
    let (bytes, mode) = read_file(file)?;
    if mode & 0o007 != 0 {
        return Err(CredentialsError::Open { file: file.to_owned() });
    }
    Ok(bytes)
}

/// What it holds, and who may read it.
fn read_file(path: &Path) -> Result<(Vec<u8>, u32), CredentialsError> {
    let read = || {
        let file = File::open(path)?;
        let mode = file.metadata()?.permissions().mode();
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok((bytes, mode))
    };
    read().map_err(|source| CredentialsError::File { file: path.to_owned(), source })
}
